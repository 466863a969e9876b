"""Train steps for the worst case over groups or samples in the place of the average."""

from keras_regularize.models.robust_optimization.group_dro import GroupDRO
from keras_regularize.models.robust_optimization.prospect import Prospect

__all__ = ["GroupDRO", "Prospect"]
