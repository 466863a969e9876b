"""Wrap a model, then `compile` and `fit` as usual. Wrappers nest and read as they act: `SAM(VAT(model))`."""

from keras_regularize.models.adversarial import (
    ALP,
    ELLE,
    MART,
    SRSTAWR,
    TRADES,
    AdvCompSum,
    AdversarialTraining,
    ARoW,
    FreeAdversarialTraining,
    GradAlign,
    InputGradientPenalty,
)
from keras_regularize.models.art import ART
from keras_regularize.models.distillation import Distillation
from keras_regularize.models.elastic_quantization import ElasticQuantization
from keras_regularize.models.ens_loss import EnsLoss
from keras_regularize.models.ensemble import Ensemble
from keras_regularize.models.factored_spherical_classifier import FactoredSphericalClassifier
from keras_regularize.models.functional_entropy import FunctionalEntropyRegularization
from keras_regularize.models.group_dro import GroupDRO
from keras_regularize.models.noisy_labels import ELR, CoTeaching, ELRPlus
from keras_regularize.models.prospect import Prospect
from keras_regularize.models.r_drop import RDrop
from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.models.robust_self_supervised import RobustSelfSupervised
from keras_regularize.models.sharpness import (
    AMP,
    ASAM,
    AWP,
    GSAM,
    IGNITE,
    SAM,
    Flooding,
    FriendlySAM,
    GradientRegularization,
    LookSAM,
    MomentumSAM,
)
from keras_regularize.models.vat import VAT
from keras_regularize.models.weight_penalty import WeightPenalty
from keras_regularize.models.with_labels import WithLabels

__all__ = [
    "ALP",
    "AMP",
    "ART",
    "ASAM",
    "AWP",
    "ELLE",
    "ELR",
    "GSAM",
    "IGNITE",
    "MART",
    "SAM",
    "SRSTAWR",
    "TRADES",
    "VAT",
    "ARoW",
    "AdvCompSum",
    "AdversarialTraining",
    "CoTeaching",
    "Distillation",
    "ELRPlus",
    "ElasticQuantization",
    "EnsLoss",
    "Ensemble",
    "FactoredSphericalClassifier",
    "Flooding",
    "FreeAdversarialTraining",
    "FriendlySAM",
    "FunctionalEntropyRegularization",
    "GradAlign",
    "GradientRegularization",
    "GroupDRO",
    "InputGradientPenalty",
    "LookSAM",
    "MomentumSAM",
    "Prospect",
    "RDrop",
    "RegularizedModel",
    "RobustSelfSupervised",
    "WeightPenalty",
    "WithLabels",
]
