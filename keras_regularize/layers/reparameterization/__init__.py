"""Layers whose weights are a function of the stored weights."""
