"""Class probabilities and labels of a batch, one row per sample."""

import numpy as np
from keras import ops

from keras_regularize.metrics._samples import class_ids, position_weights


def class_probabilities(y_pred, from_logits):
    """Float32 probabilities `(…, classes)`; a vector or one column is the score of class 1."""
    p = ops.convert_to_tensor(y_pred, dtype="float32")
    if len(p.shape) == 1:
        p = p[:, None]
    if p.shape[-1] == 1:
        p = ops.sigmoid(p) if from_logits else p
        return ops.concatenate([1.0 - p, p], axis=-1)
    return ops.softmax(p, axis=-1) if from_logits else p


def class_samples(y_true, y_pred, sample_weight, from_logits, ignore_class):
    """`(p, ids, weight)`: `(n, classes)`, `(n,)` and `(n,)`, or `None` for the weight if all count alike.

    Probabilities are NaN where the label is no class.
    """
    p = class_probabilities(y_pred, from_logits)
    weight = position_weights(y_pred, p.shape[:-1], sample_weight)
    ids, weight, outside = class_ids(y_true, p, weight, ignore_class)
    if weight is not None:
        weight = weight * ops.ones_like(p[..., 0])
    if outside is not None:
        p = ops.where(outside[..., None], np.nan, p)
    if len(p.shape) > 2:
        ids, p = ops.reshape(ids, (-1,)), ops.reshape(p, (-1, p.shape[-1]))
        weight = weight if weight is None else ops.reshape(weight, (-1,))
    return p, ids, weight
