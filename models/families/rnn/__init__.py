"""One simple recurrent network shared by all nodes."""
