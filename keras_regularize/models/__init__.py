from keras_regularize.models.adversarial import TRADES, AdversarialTraining
from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.models.robust_optimization import GroupDRO, Prospect
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
    "GSAM",
    "SAM",
    "TRADES",
    "VAT",
    "AdversarialTraining",
    "Flooding",
    "GradientRegularization",
    "GroupDRO",
    "Prospect",
    "RegularizedModel",
    "WeightPenalty",
    "WithLabels",
]
