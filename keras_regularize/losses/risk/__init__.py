"""Losses of the worst samples: risk measures of the losses in a batch in the place of their mean."""

from keras_regularize.losses.risk.cvar import CVaR
from keras_regularize.losses.risk.spectra import spectral_weights
from keras_regularize.losses.risk.spectral_risk import SpectralRisk

__all__ = ["CVaR", "SpectralRisk", "spectral_weights"]
