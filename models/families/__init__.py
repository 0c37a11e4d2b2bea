"""One folder per model family: `network.py` and `card.py`, found by looking."""
