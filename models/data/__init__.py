"""Contract, windows, scaling, snapshots: everything about data that is not one data set."""
