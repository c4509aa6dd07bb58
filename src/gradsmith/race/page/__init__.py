"""The page of the report: its sections, its figures, and what they say in words."""
