"""Penalties that make filters orthogonal to each other and of unit length."""
