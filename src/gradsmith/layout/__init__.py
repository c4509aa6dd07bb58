"""Which matrices a tree has."""
