"""Losses: `model.compile(loss=…)`."""

from keras_regularize.losses.calibration import (
    ACLS,
    FLSD,
    MDCA,
    MaxSup,
    MbLS,
    SpectralDecoupling,
)
from keras_regularize.losses.classification import Entmax, PolyFocal, PolyLoss, Sparsemax, ZLoss
from keras_regularize.losses.distillation import decoupled_distillation_loss, distillation_loss
from keras_regularize.losses.imbalance import (
    LDAM,
    AnyLoss,
    LogitAdjusted,
    Seesaw,
    class_balanced_weights,
)
from keras_regularize.losses.noisy_labels import (
    SymmetricCrossentropy,
    ZErrorBCE,
    ZErrorMSE,
    early_learning_penalty,
)
from keras_regularize.losses.partial_feedback import AggregateResponse, SmoothedIPS
from keras_regularize.losses.rejection import Rejection

__all__ = [
    "ACLS",
    "AggregateResponse",
    "AnyLoss",
    "Entmax",
    "FLSD",
    "LDAM",
    "LogitAdjusted",
    "MDCA",
    "MaxSup",
    "MbLS",
    "PolyFocal",
    "PolyLoss",
    "Rejection",
    "Seesaw",
    "SmoothedIPS",
    "Sparsemax",
    "SpectralDecoupling",
    "SymmetricCrossentropy",
    "ZErrorBCE",
    "ZErrorMSE",
    "ZLoss",
    "class_balanced_weights",
    "decoupled_distillation_loss",
    "distillation_loss",
    "early_learning_penalty",
]
