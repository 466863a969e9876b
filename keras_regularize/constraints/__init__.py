"""`kernel_constraint=…`: projections and shrinkage applied to a weight after each optimizer step."""

from keras_regularize.constraints._attach import attach
from keras_regularize.constraints.sparsity import SoftThreshold

__all__ = ["SoftThreshold", "attach"]
