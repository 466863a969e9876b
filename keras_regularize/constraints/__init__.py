"""Pass them to `kernel_constraint=…`, or set them on a model that exists with `attach`."""

from keras_regularize.constraints._attach import attach
from keras_regularize.constraints.quantization import Binary, Ternary
from keras_regularize.constraints.sparsity import GroupSoftThreshold, HardThreshold, SoftThreshold

__all__ = ["Binary", "GroupSoftThreshold", "HardThreshold", "SoftThreshold", "Ternary", "attach"]
