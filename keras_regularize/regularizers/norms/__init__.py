"""Penalties on the length of filters."""
