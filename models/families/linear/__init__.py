"""Ridge regression on lags and profile."""
