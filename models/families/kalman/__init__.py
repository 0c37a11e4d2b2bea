"""The extended Kalman filter, without a map."""
