"""The last fix that was seen."""
