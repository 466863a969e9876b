"""Last layers of classifiers."""

from keras_regularize.layers.heads.ada_face import AdaFace
from keras_regularize.layers.heads.arc_face import ArcFace
from keras_regularize.layers.heads.cos_face import CosFace
from keras_regularize.layers.heads.curricular_face import CurricularFace
from keras_regularize.layers.heads.gaussian_naive_bayes import GaussianNaiveBayes
from keras_regularize.layers.heads.legendre_link import LegendreLink
from keras_regularize.layers.heads.mag_face import MagFace
from keras_regularize.layers.heads.neural_collapse import NeuralCollapse
from keras_regularize.layers.heads.rationale_dense import RationaleDense

__all__ = [
    "AdaFace",
    "ArcFace",
    "CosFace",
    "CurricularFace",
    "GaussianNaiveBayes",
    "LegendreLink",
    "MagFace",
    "NeuralCollapse",
    "RationaleDense",
]
