"""Layers: augmentation, noise, and wrappers that reparameterize another layer's weights."""

from keras_regularize.layers.augmentation.cutout import Cutout
from keras_regularize.layers.blocks.accordion_block import AccordionBlock
from keras_regularize.layers.noise.nested_dropout import (
    NestedDropout,
    nested_dropout_probabilities,
)
from keras_regularize.layers.reparameterization.reparameterized import Reparameterized
from keras_regularize.layers.reparameterization.weight_compander import WeightCompander

__all__ = [
    "AccordionBlock",
    "Cutout",
    "NestedDropout",
    "Reparameterized",
    "WeightCompander",
    "nested_dropout_probabilities",
]
