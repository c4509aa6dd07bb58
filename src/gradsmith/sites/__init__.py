"""Where matrices are computed."""
