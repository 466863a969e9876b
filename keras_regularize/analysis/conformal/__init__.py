"""Sets and intervals that contain the truth as often as is asked for."""
