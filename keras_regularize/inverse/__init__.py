"""Solvers of inverse problems."""

from keras_regularize.inverse.manifold import chart_gradient, manifold_descent

__all__ = ["chart_gradient", "manifold_descent"]
