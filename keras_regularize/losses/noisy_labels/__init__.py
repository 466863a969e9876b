"""Losses for labels of which some are wrong."""

from keras_regularize.losses.noisy_labels._early_learning import early_learning_penalty
from keras_regularize.losses.noisy_labels.bi_tempered import BiTempered
from keras_regularize.losses.noisy_labels.symmetric_crossentropy import SymmetricCrossentropy
from keras_regularize.losses.noisy_labels.z_error import ZErrorBCE, ZErrorMSE

__all__ = [
    "BiTempered",
    "SymmetricCrossentropy",
    "ZErrorBCE",
    "ZErrorMSE",
    "early_learning_penalty",
]
