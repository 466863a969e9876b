"""Penalties on the shape of the distribution of weights."""
