"""Touches the world: one file wraps one outside thing."""
