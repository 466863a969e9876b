"""The contract that every symbol of the package keeps, as functions to run on methods of your own."""

from keras_regularize.testing._common import (
    assert_config_round_trip,
    assert_finite_gradients,
    assert_gradient_matches_finite_differences,
)
from keras_regularize.testing.activations import check_activation
from keras_regularize.testing.attacks import check_attack
from keras_regularize.testing.constraints import check_constraint
from keras_regularize.testing.documentation import check_docstring
from keras_regularize.testing.layers import check_layer
from keras_regularize.testing.losses import check_loss
from keras_regularize.testing.metrics import check_metric
from keras_regularize.testing.models import check_model
from keras_regularize.testing.optimizers import check_optimizer
from keras_regularize.testing.regularizers import check_regularizer

__all__ = [
    "assert_config_round_trip",
    "assert_finite_gradients",
    "assert_gradient_matches_finite_differences",
    "check_activation",
    "check_attack",
    "check_constraint",
    "check_docstring",
    "check_layer",
    "check_loss",
    "check_metric",
    "check_model",
    "check_optimizer",
    "check_regularizer",
]
