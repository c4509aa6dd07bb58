"""One technique a file: rules for stacks of matrices, and transformations of whole trees."""
