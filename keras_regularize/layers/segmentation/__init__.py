"""Layers that add a loss of masks and boundaries where it needs weights or features."""
