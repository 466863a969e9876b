"""What the focal losses are made of: the label's log-probability and powers of the error."""

from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.labels import mean_under, pick
from keras_regularize.numerics import GUARD, maximum


def log_probability_and_error(log_p, ids, rows):
    """`Σ_k t_k log p_k` and `1 - Σ_k t_k p_k` per sample, for labels as `split_labels` gives them."""
    if rows is None:
        log_pt = pick(log_p, ids)
        return log_pt, -ops.expm1(log_pt)  # Without cancellation near a probability of 1.
    log_pt = mean_under(rows, log_p)
    return log_pt, ops.relu(1.0 - ops.sum(rows * ops.exp(log_p), axis=-1))


def focusing(error, gamma):
    """`error ** gamma`, with a finite slope at 0; `error` is not negative."""
    # Below an exponent of 1 the slope at 0 is infinite.
    return backend.power(maximum(error, GUARD) if gamma < 1 else error, gamma)
