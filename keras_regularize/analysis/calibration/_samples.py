"""Labels and scores of classifiers as float64 arrays, one row per sample."""

import numpy as np

TINY = float(np.finfo("float32").tiny)  # In the place of probabilities that were rounded to 0.
ROUNDED = 2.0**-25  # In the place of `1 - p` where a probability in float32 was rounded to 1.


def class_samples(y_true, scores):
    """`(rows, scores)`: one-hot or soft labels `(n, classes)`, and scores `(n, classes)` or `(n, 1)`.

    A vector or one column is the score of the second of two classes. Further axes before the classes are
    positions, which become samples.
    """
    y, z = np.asarray(y_true), as_scores(scores)
    classes, leading = max(z.shape[-1], 2), z.shape[:-1]
    if y.shape == (*leading, 1):
        y = y[..., 0]
    if y.shape not in (leading, (*leading, classes)) or not z.size:
        raise ValueError(
            "Expected class ids (n,) or (n, 1), or rows (n, classes), for scores (n, classes) of at least one "
            f"sample. Received: y_true.shape={np.shape(y_true)}, scores.shape={np.shape(scores)}"
        )
    if y.shape == leading:
        inside = (y >= 0) & (y < classes) & (y == np.trunc(y))
        if not inside.all():
            wrong = ", ".join(map(str, np.unique(y[~inside])[:5]))
            raise ValueError(
                f"Expected class ids from 0 to {classes - 1}. Received: y_true with {wrong}. "
                "Leave samples without a label out, by a weight of 0 where there are weights"
            )
        rows = (y[..., None] == np.arange(classes)).astype("float64")
    else:
        rows = y.astype("float64")
        if not ((rows >= 0).all() and np.allclose(rows.sum(-1), 1.0, atol=1e-3)):
            raise ValueError(
                "Expected rows of labels of at least 0 that sum to 1. Received: y_true with entries from "
                f"{rows.min()} to {rows.max()} and sums from {rows.sum(-1).min()} to {rows.sum(-1).max()}"
            )
    return rows.reshape(-1, classes), z.reshape(-1, z.shape[-1])


def as_scores(scores):
    """Float64 scores `(…, classes)` or `(…, 1)`, which must be finite."""
    z = np.asarray(scores, "float64")
    z = z[:, None] if z.ndim == 1 else z
    if z.ndim < 2 or not z.shape[-1] or not np.isfinite(z).all():
        raise ValueError(
            "Expected finite scores (n, classes), or (n,) or (n, 1) of the second of two classes. Received: "
            f"shape {np.shape(scores)}, {z.size - np.isfinite(z).sum()} of them not finite"
        )
    return z


def both_classes(scores, from_logits):
    """Scores of both of two classes, where there is one column."""
    if scores.shape[-1] > 1:
        return scores
    return np.concatenate([0.0 * scores if from_logits else 1.0 - scores, scores], axis=-1)


def check_probabilities(p):
    """`p`, which must be between 0 and 1 and sum to 1, up to rounding in half precision."""
    if not _are_probabilities(p, 2e-2):
        raise ValueError(
            f"Expected probabilities of classes that sum to 1. Received: numbers from {p.min()} to {p.max()}. "
            "Are they logits, or scores of several labels?"
        )
    return p


def check_logits(z):
    """`z`, which must not be probabilities, of which a softmax means nothing."""
    if z.shape[-1] > 1 and z.size and _are_probabilities(z, 1e-6):
        raise ValueError(
            "Expected logits. Received: numbers of at least 0 that sum to 1, as probabilities do. "
            "Take their logarithms"
        )
    return z


def _are_probabilities(p, tolerance):
    inside = ((p >= 0) & (p <= 1 + tolerance)).all()
    return inside and (p.shape[-1] == 1 or np.allclose(p.sum(-1), 1.0, rtol=0, atol=tolerance))


def log_softmax(z):
    """Of the last axis."""
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def class_probabilities(scores, from_logits):
    """Probabilities `(…, classes)` of scores, those of one column for both classes."""
    z = both_classes(as_scores(scores), from_logits)
    return np.exp(log_softmax(check_logits(z))) if from_logits else check_probabilities(z)


def to_logits(scores, from_logits):
    """Logits of the shape of scores that are either logits or probabilities."""
    z = as_scores(scores)
    if from_logits:
        return check_logits(z)
    p = check_probabilities(z)
    z = np.log(np.maximum(p, TINY))
    return z if z.shape[-1] > 1 else z - np.log(np.maximum(1.0 - p, ROUNDED))


def uniform_bins(values, num_bins):
    """The bin of each number between 0 and 1, of `num_bins` of equal width, closed on the right.

    In float32 as in the metrics, where 0.4 in float32, which is a little more, is at the edge of ten bins too.
    """
    scaled = np.asarray(values, "float32") * np.float32(num_bins)
    return np.clip(np.ceil(scaled).astype(int) - 1, 0, num_bins - 1)
