"""Penalties on the distance to given weights, and the reverse."""
