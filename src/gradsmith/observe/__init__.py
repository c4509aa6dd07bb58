"""What an optimizer will do, keep and cost."""
