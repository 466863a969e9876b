"""Metrics of lists: how near the top the relevant items are."""
