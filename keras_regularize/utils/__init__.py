"""Helpers for data and models that Keras lacks."""

__all__ = []
