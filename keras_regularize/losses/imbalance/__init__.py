"""Losses for classes of unequal frequency."""

from keras_regularize.losses.imbalance._class_balanced import class_balanced_weights
from keras_regularize.losses.imbalance.any_loss import AnyLoss
from keras_regularize.losses.imbalance.ldam import LDAM
from keras_regularize.losses.imbalance.logit_adjusted import LogitAdjusted
from keras_regularize.losses.imbalance.seesaw import Seesaw

__all__ = ["LDAM", "AnyLoss", "LogitAdjusted", "Seesaw", "class_balanced_weights"]
