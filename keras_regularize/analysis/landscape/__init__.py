"""The loss as a landscape over the weights: planes through it, paths in it, how it settles with more data."""
