"""`compile(optimizer=…)`: optimizers that wrap any Keras optimizer."""

from keras_regularize.optimizers.decoupled_weight_decay import (
    DecoupledWeightDecay,
    normalized_weight_decay,
)
from keras_regularize.optimizers.proximal import Proximal

__all__ = ["DecoupledWeightDecay", "Proximal", "normalized_weight_decay"]
