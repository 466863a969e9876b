"""Losses of a student that learns from a teacher."""

from keras_regularize.losses.distillation._distillation import (
    decoupled_distillation_loss,
    distillation_loss,
)

__all__ = ["decoupled_distillation_loss", "distillation_loss"]
