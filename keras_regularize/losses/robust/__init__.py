"""Losses of a prediction and of the prediction under attack, as functions of both."""

from keras_regularize.losses.robust._adaptively_weighted_regularization import (
    adaptively_weighted_regularization,
)
from keras_regularize.losses.robust._adversarial_logit_pairing import adversarial_logit_pairing
from keras_regularize.losses.robust._arow import arow
from keras_regularize.losses.robust._mart import mart
from keras_regularize.losses.robust._smooth_adversarial_comp_sum import smooth_adversarial_comp_sum
from keras_regularize.losses.robust._trades import trades

__all__ = [
    "adaptively_weighted_regularization",
    "adversarial_logit_pairing",
    "arow",
    "mart",
    "smooth_adversarial_comp_sum",
    "trades",
]
