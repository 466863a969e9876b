"""Training towards sparse networks."""

from keras_regularize.models.sparsity.art import ART

__all__ = ["ART"]
