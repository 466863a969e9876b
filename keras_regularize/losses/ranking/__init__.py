"""Losses of lists: scores whose order is that of the items' relevance."""
