"""Penalties whose minimum is sparse."""
