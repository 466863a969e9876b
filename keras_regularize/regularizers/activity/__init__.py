"""Penalties on activations."""
