"""Losses: `model.compile(loss=…)`."""

from keras_regularize.losses.calibration import MaxSup
from keras_regularize.losses.classification import CompSum, PolyLoss
from keras_regularize.losses.regression import MatchingLoss
from keras_regularize.losses.risk import CVaR, SpectralRisk, spectral_weights
from keras_regularize.losses.robust import (
    adaptively_weighted_regularization,
    adversarial_logit_pairing,
    arow,
    mart,
    smooth_adversarial_comp_sum,
    trades,
)
from keras_regularize.losses.semi_supervised import conditional_entropy

__all__ = [
    "CVaR",
    "CompSum",
    "MatchingLoss",
    "MaxSup",
    "PolyLoss",
    "SpectralRisk",
    "adaptively_weighted_regularization",
    "adversarial_logit_pairing",
    "arow",
    "conditional_entropy",
    "mart",
    "smooth_adversarial_comp_sum",
    "spectral_weights",
    "trades",
]
