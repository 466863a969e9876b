"""Train steps in which a teacher takes part."""

from keras_regularize.models.distillation.distillation import Distillation

__all__ = ["Distillation"]
