"""One transformer encoder shared by all nodes."""
