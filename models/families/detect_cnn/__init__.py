"""Convolutions over minutes and stations."""
