"""What `gradsmith.watch` reads: a file a group of readings."""
