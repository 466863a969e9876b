"""Targets and scores of one output, in equal shapes."""

from keras import ops

from keras_regularize.numerics import upcast


def align(y_true, y_pred):
    """Both in at least float32 and of the same shape, without a last axis of size one.

    `(batch,)` and `(batch, 1)` mean the same; what is left are samples, or `(batch, time)` positions.
    """
    scores = upcast(y_pred)
    targets = ops.cast(ops.convert_to_tensor(y_true), scores.dtype)
    shapes = tuple(targets.shape), tuple(scores.shape)
    if len(scores.shape) > 1 and scores.shape[-1] == 1:
        scores = ops.squeeze(scores, axis=-1)
    if len(targets.shape) > len(scores.shape) and targets.shape[-1] == 1:
        targets = ops.squeeze(targets, axis=-1)
    given, wanted = tuple(targets.shape), tuple(scores.shape)
    if (
        not wanted
        or len(given) != len(wanted)
        or any(None not in (a, b) and a != b for a, b in zip(given, wanted))
    ):
        raise ValueError(
            "Expected targets and predictions of equal shapes, (batch,) or (batch, 1). "
            f"Received: y_true.shape={shapes[0]}, y_pred.shape={shapes[1]}"
        )
    return targets, scores
