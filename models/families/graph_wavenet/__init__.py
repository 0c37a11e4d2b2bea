"""Graph WaveNet."""
