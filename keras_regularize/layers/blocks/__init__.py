"""Blocks of layers with their own penalty."""
