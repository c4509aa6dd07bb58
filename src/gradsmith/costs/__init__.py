"""What one update costs, read from the compiled program."""
