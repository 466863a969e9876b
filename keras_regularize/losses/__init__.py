"""Losses: `model.compile(loss=…)`."""

from keras_regularize.losses.calibration import MaxSup
from keras_regularize.losses.classification import PolyLoss
from keras_regularize.losses.risk import CVaR, SpectralRisk, spectral_weights

__all__ = ["CVaR", "MaxSup", "PolyLoss", "SpectralRisk", "spectral_weights"]
