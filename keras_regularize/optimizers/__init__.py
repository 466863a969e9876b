"""Pass them to `compile(optimizer=…)`: most wrap any Keras optimizer."""

from keras_regularize.optimizers.adaptive_gradient_clipping import (
    AdaptiveGradientClipping,
    unit_axes,
)
from keras_regularize.optimizers.decoupled_weight_decay import (
    DecoupledWeightDecay,
    normalized_weight_decay,
)
from keras_regularize.optimizers.irrelevant_weight_decay import IrrelevantWeightDecay
from keras_regularize.optimizers.lawn import LAWN
from keras_regularize.optimizers.lobster import LOBSTER
from keras_regularize.optimizers.masked import Masked
from keras_regularize.optimizers.one_cycle import OneCycle
from keras_regularize.optimizers.proximal import Proximal
from keras_regularize.optimizers.wrapper import OptimizerWrapper

__all__ = [
    "OptimizerWrapper",
    "LAWN",
    "LOBSTER",
    "AdaptiveGradientClipping",
    "DecoupledWeightDecay",
    "IrrelevantWeightDecay",
    "Masked",
    "OneCycle",
    "Proximal",
    "normalized_weight_decay",
    "unit_axes",
]
