"""Spatial-temporal identity network."""
