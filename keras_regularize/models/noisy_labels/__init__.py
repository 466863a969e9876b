"""Train steps for labels of which some are wrong."""

from keras_regularize.models.noisy_labels.co_teaching import CoTeaching
from keras_regularize.models.noisy_labels.elr import ELR
from keras_regularize.models.noisy_labels.elr_plus import ELRPlus

__all__ = ["ELR", "CoTeaching", "ELRPlus"]
