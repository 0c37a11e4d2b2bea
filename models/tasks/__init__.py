"""One file per promise: inputs, outputs, loss, metrics, slices."""
