"""Quantizers of activations and weights that networks are trained through."""
