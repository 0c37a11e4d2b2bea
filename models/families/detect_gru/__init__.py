"""A recurrent network over minutes, one station and its neighbours at a time."""
