"""Penalties that spread filters apart."""
