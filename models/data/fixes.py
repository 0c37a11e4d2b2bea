"""What a fix of a floating car holds, and how far it may be wrong; without torch."""

FEATURES = ("x_m", "y_m", "course_sin", "course_cos", "speed_mps", "turn_dps")
CADENCE_S = 2.0  # between two fixes
