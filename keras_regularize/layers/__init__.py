"""Layers: augmentation, noise, and wrappers that reparameterize another layer's weights."""

from keras_regularize.layers.augmentation.cutout import Cutout
from keras_regularize.layers.noise.nested_dropout import (
    NestedDropout,
    nested_dropout_probabilities,
)
from keras_regularize.layers.reparameterization.bit_weights import BitWeights
from keras_regularize.layers.reparameterization.reparameterized import Reparameterized
from keras_regularize.layers.reparameterization.weight_compander import WeightCompander
from keras_regularize.layers.reparameterization.weight_conditioning import WeightConditioning

__all__ = [
    "BitWeights",
    "Cutout",
    "NestedDropout",
    "Reparameterized",
    "WeightCompander",
    "WeightConditioning",
    "nested_dropout_probabilities",
]
