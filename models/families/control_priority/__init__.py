"""Evolved priority index of phases."""
