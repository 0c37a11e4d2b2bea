"""The last observed value."""
