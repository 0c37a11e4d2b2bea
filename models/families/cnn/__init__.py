"""Small convolutional network."""
