"""The California algorithm: three occupancy tests between two stations."""
