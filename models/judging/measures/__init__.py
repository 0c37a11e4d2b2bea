"""One file per tensor task: what its answers are measured by."""
