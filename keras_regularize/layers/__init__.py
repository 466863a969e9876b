"""Layers: augmentation, and wrappers that reparameterize another layer's weights."""

from keras_regularize.layers.augmentation.cutout import Cutout
from keras_regularize.layers.reparameterization.reparameterized import Reparameterized
from keras_regularize.layers.reparameterization.weight_compander import WeightCompander

__all__ = ["Cutout", "Reparameterized", "WeightCompander"]
