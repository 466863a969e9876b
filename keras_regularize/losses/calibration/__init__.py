"""Losses that keep a classifier's confidence honest."""
