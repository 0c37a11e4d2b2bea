"""One LSTM shared by all nodes."""
