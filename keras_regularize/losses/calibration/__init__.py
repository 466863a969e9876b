"""Losses that keep a classifier's confidence honest."""

from keras_regularize.losses.calibration.acls import ACLS
from keras_regularize.losses.calibration.flsd import FLSD
from keras_regularize.losses.calibration.max_sup import MaxSup
from keras_regularize.losses.calibration.mbls import MbLS
from keras_regularize.losses.calibration.mdca import MDCA
from keras_regularize.losses.calibration.spectral_decoupling import SpectralDecoupling

__all__ = ["ACLS", "FLSD", "MDCA", "MaxSup", "MbLS", "SpectralDecoupling"]
