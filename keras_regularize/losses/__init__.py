"""Losses: `model.compile(loss=…)`."""

from keras_regularize.losses.calibration import (
    ACLS,
    FLSD,
    MDCA,
    MaxSup,
    MbLS,
    SpectralDecoupling,
)
from keras_regularize.losses.classification import PolyLoss

__all__ = ["ACLS", "FLSD", "MDCA", "MaxSup", "MbLS", "PolyLoss", "SpectralDecoupling"]
