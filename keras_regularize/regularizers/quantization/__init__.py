"""Regularizers that make weights and activations easy to quantize."""

__all__ = []
