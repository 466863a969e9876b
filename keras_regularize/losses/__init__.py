"""Pass them to `compile(loss=…)`; functions are pieces to build with.

Each gives one value per sample, so sample weights, masks and several replicas work as with Keras' own.
"""

from keras_regularize.losses._conditional_entropy import conditional_entropy
from keras_regularize.losses.aggregate_response import AggregateResponse
from keras_regularize.losses.calibration import ACLS, FLSD, MDCA, MaxSup, MbLS, SpectralDecoupling
from keras_regularize.losses.classification import (
    CompSum,
    Entmax,
    PolyFocal,
    PolyLoss,
    Sparsemax,
    ZLoss,
    calibrated_derivatives,
)
from keras_regularize.losses.distillation import decoupled_distillation_loss, distillation_loss
from keras_regularize.losses.features import (
    neural_collapse_between,
    neural_collapse_within,
    rationale_invariance,
)
from keras_regularize.losses.imbalance import (
    LDAM,
    AnyLoss,
    LogitAdjusted,
    Seesaw,
    class_balanced_weights,
)
from keras_regularize.losses.matching_loss import MatchingLoss
from keras_regularize.losses.noisy_labels import (
    BiTempered,
    SymmetricCrossentropy,
    ZErrorBCE,
    ZErrorMSE,
    early_learning_penalty,
)
from keras_regularize.losses.rejection import Rejection
from keras_regularize.losses.risk import CVaR, SpectralRisk, spectral_weights
from keras_regularize.losses.robust import (
    adaptively_weighted_regularization,
    adversarial_logit_pairing,
    arow,
    mart,
    smooth_adversarial_comp_sum,
    trades,
)
from keras_regularize.losses.smoothed_ips import SmoothedIPS

__all__ = [
    "ACLS",
    "FLSD",
    "LDAM",
    "MDCA",
    "AggregateResponse",
    "AnyLoss",
    "BiTempered",
    "CVaR",
    "CompSum",
    "Entmax",
    "LogitAdjusted",
    "MatchingLoss",
    "MaxSup",
    "MbLS",
    "PolyFocal",
    "PolyLoss",
    "Rejection",
    "Seesaw",
    "SmoothedIPS",
    "Sparsemax",
    "SpectralDecoupling",
    "SpectralRisk",
    "SymmetricCrossentropy",
    "ZErrorBCE",
    "ZErrorMSE",
    "ZLoss",
    "adaptively_weighted_regularization",
    "adversarial_logit_pairing",
    "arow",
    "calibrated_derivatives",
    "class_balanced_weights",
    "conditional_entropy",
    "decoupled_distillation_loss",
    "distillation_loss",
    "early_learning_penalty",
    "mart",
    "neural_collapse_between",
    "neural_collapse_within",
    "rationale_invariance",
    "smooth_adversarial_comp_sum",
    "spectral_weights",
    "trades",
]
