"""Diffusion models: noise that is added in many levels, and networks that learn to take it off."""
