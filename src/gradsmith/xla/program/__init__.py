"""What does a compiled program do? Its products, collectives, loops and cycles, by its text."""
