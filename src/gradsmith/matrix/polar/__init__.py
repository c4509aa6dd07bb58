"""The polar factor: a file a method."""
