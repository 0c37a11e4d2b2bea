"""The last travel time that was reported."""
