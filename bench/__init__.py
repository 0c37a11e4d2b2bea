"""Benchmarks, side by side with a peer."""
