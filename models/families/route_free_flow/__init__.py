"""Travel times of empty streets."""
