"""Regularizers that make weights and activations easy to quantize."""
