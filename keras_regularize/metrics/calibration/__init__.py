"""Metrics of a classifier's probabilities: how far they are from what happens, and whether they rank mistakes."""
