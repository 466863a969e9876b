"""Penalties on features of known classes."""
