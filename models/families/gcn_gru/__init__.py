"""Graph convolutions inside a GRU."""
