"""One file per task that is calibrated on validation after its export."""
