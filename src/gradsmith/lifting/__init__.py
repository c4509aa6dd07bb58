"""From a formula for one matrix to a transformation of any tree of parameters, and back."""
