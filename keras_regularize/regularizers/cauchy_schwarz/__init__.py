"""Penalties made from the Cauchy-Schwarz inequality: zero exactly where two functions of a weight are parallel."""
