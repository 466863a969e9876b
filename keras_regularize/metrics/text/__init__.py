"""Metrics of language models: how well they predict, and how much they repeat."""
