"""Weekday and weekend profile."""
