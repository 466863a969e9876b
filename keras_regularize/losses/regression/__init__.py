"""Losses of real-valued targets: robust ones and deviances."""
