"""Report, selection, gates, measuring."""
