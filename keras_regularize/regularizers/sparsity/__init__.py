"""Penalties that lead to exact or near zeros."""
