"""One GRU shared by all nodes."""
