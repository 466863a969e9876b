from keras_regularize.models.adversarial import (
    ELLE,
    TRADES,
    AdversarialTraining,
    FreeAdversarialTraining,
    GradAlign,
    InputGradientPenalty,
)
from keras_regularize.models.multimodal import FunctionalEntropyRegularization
from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.models.semi_supervised import VAT
from keras_regularize.models.sharpness import (
    AMP,
    ASAM,
    AWP,
    GSAM,
    SAM,
    Flooding,
    GradientRegularization,
)
from keras_regularize.models.weight_penalty import WeightPenalty
from keras_regularize.models.with_labels import WithLabels

__all__ = [
    "AMP",
    "ASAM",
    "AWP",
    "ELLE",
    "GSAM",
    "SAM",
    "TRADES",
    "VAT",
    "AdversarialTraining",
    "Flooding",
    "FreeAdversarialTraining",
    "FunctionalEntropyRegularization",
    "GradAlign",
    "GradientRegularization",
    "InputGradientPenalty",
    "RegularizedModel",
    "WeightPenalty",
    "WithLabels",
]
