"""Ridge regression on the features."""
