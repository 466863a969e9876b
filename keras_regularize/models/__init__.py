from keras_regularize.models.adversarial import (
    ALP,
    MART,
    SRSTAWR,
    TRADES,
    AdvCompSum,
    AdversarialTraining,
    ARoW,
)
from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.models.semi_supervised import VAT, RobustSelfSupervised
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
    "ALP",
    "MART",
    "ARoW",
    "AdvCompSum",
    "AMP",
    "ASAM",
    "AWP",
    "GSAM",
    "SAM",
    "SRSTAWR",
    "TRADES",
    "VAT",
    "AdversarialTraining",
    "Flooding",
    "GradientRegularization",
    "RegularizedModel",
    "RobustSelfSupervised",
    "WeightPenalty",
    "WithLabels",
]
