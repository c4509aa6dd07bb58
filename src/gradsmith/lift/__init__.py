"""How a formula becomes a transformation of a tree."""
