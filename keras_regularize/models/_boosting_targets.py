"""What a boosted model minimizes, and what a learner is fitted to: Newton's steps in the scores."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_regularize.labels import align_binary, label_rows
from keras_regularize.lists import read_lists
from keras_regularize.losses import CompSum, PairwiseLogistic
from keras_regularize.numerics import maximum
from keras_regularize.targets import align_targets
from keras_regularize.validation import check_choice

_LOSSES = {
    "regression": keras.losses.MeanSquaredError,
    "classification": lambda: keras.losses.BinaryCrossentropy(from_logits=True),
    "ranking": PairwiseLogistic,
}
TASKS = tuple(_LOSSES)
#: The least second derivative that a gradient is divided by, that of a probability within 1e-6 of 0 or 1.
_LEAST_CURVATURE = 1e-6


def task_loss(task: str, units: int) -> Any:
    """The loss that a boosted model is trained on."""
    several = task == "classification" and units > 1
    return CompSum(tau=1.0) if several else _LOSSES[task]()


class BoostingTargets(NamedTuple):
    """What a new learner is fitted to, of the shape of the scores.

    Attributes:
        target: What is to be added to the scores.
        weight: How much an error matters.
    """

    target: Any
    weight: Any


def boosting_targets(task: str, y: Any, score: Any, order: int = 2) -> BoostingTargets:
    """As `GrowNet.boosting_targets`, which documents it."""
    check_choice("order", order, (1, 2))
    if check_choice("task", task, TASKS) == "regression":
        targets, scores = align_targets(y, score)
        return BoostingTargets(targets - scores, ops.ones_like(scores))
    shape = ops.shape(ops.convert_to_tensor(score))
    if task == "ranking":
        gradient, curvature = _pair_derivatives(read_lists(y, score))
    else:
        gradient, curvature = _class_derivatives(y, score)
    gradient, curvature = ops.reshape(gradient, shape), ops.reshape(curvature, shape)
    if order == 1:
        return BoostingTargets(-gradient, ops.ones_like(gradient))
    some = curvature > 0  # An item without a pair has none.
    return BoostingTargets(-gradient / ops.where(some, curvature, 1.0), curvature)


def _class_derivatives(y, score):
    """First and second derivative of cross-entropy in the scores."""
    if len(score.shape) < 2 or score.shape[-1] == 1:
        y, score = align_binary(y, score)
        p = ops.sigmoid(score)
        return p - y, maximum(p * ops.sigmoid(-score), _LEAST_CURVATURE)
    rows, p = label_rows(y, score), ops.softmax(score, axis=-1)
    return p - rows, maximum(p * (1.0 - p), _LEAST_CURVATURE)


def _pair_derivatives(lists):
    """First and second derivative of the pairwise logistic loss in the scores `(batch, list)`."""
    y, s, there = lists
    before = ops.cast(y[:, :, None] > ops.where(there, y, np.inf)[:, None, :], s.dtype)
    gaps = s[:, :, None] - s[:, None, :]
    share = before / maximum(ops.sum(before, axis=(1, 2), keepdims=True), 1.0)
    p = ops.sigmoid(-gaps)
    slope, bend = share * p, share * maximum(p * ops.sigmoid(gaps), _LEAST_CURVATURE)
    gradient = ops.sum(slope, axis=1) - ops.sum(slope, axis=2)
    return gradient, ops.sum(bend, axis=1) + ops.sum(bend, axis=2)
