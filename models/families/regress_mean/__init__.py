"""The mean of the target."""
