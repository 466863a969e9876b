"""Layers: augmentation, heads, noise, and wrappers that reparameterize another layer's weights."""

from keras_regularize.layers.augmentation.cutout import Cutout
from keras_regularize.layers.heads import (
    AdaFace,
    ArcFace,
    CosFace,
    CurricularFace,
    GaussianNaiveBayes,
    LegendreLink,
    MagFace,
    NeuralCollapse,
    RationaleDense,
)
from keras_regularize.layers.noise.nested_dropout import NestedDropout, nested_dropout_probabilities
from keras_regularize.layers.reparameterization.reparameterized import Reparameterized
from keras_regularize.layers.reparameterization.weight_compander import WeightCompander

__all__ = [
    "AdaFace",
    "ArcFace",
    "CosFace",
    "CurricularFace",
    "Cutout",
    "GaussianNaiveBayes",
    "LegendreLink",
    "MagFace",
    "NestedDropout",
    "NeuralCollapse",
    "RationaleDense",
    "Reparameterized",
    "WeightCompander",
    "nested_dropout_probabilities",
]
