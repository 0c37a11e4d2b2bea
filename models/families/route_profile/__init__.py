"""The usual travel time at this time of day."""
