"""Penalties whose minimum is sparse."""

__all__ = []
