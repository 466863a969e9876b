"""Scores of how well an input fits the data a model was trained on, and how well these tell other data apart."""
