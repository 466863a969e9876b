"""Counts, means and the spread about them of the features of each class, and the classifier they make."""

import numpy as np
from keras import ops

from keras_regularize.labels import label_ids


def class_statistics(features, labels, num_classes):
    """`(counts (K,), means (K, d), squares (d,))` in float64; squares are summed over all samples."""
    features = np.asarray(ops.convert_to_numpy(features), "float64")
    if features.ndim != 2:
        raise ValueError(
            f"`features` must be of shape (n, features). Received: features.shape={features.shape}"
        )
    shape = (len(features), num_classes)
    ids = label_ids(ops.convert_to_tensor(labels), np.broadcast_to(np.float32(0), shape))
    ids = ops.convert_to_numpy(ids)
    if len(ids) and (ids.min() < 0 or ids.max() >= num_classes):
        raise ValueError(
            f"`labels` must be class ids from 0 to {num_classes - 1}. "
            f"Received ids from {ids.min()} to {ids.max()}"
        )
    member = np.eye(num_classes)[ids]
    counts = member.sum(axis=0)
    means = member.T @ features / np.maximum(counts, 1.0)[:, None]
    return counts, means, np.square(features - means[ids]).sum(axis=0)


def merged(first, second):
    """The statistics of two sets of samples together."""
    (n1, means1, squares1), (n2, means2, squares2) = first, second
    counts = n1 + n2
    share = n2 / np.maximum(counts, 1.0)
    apart = means2 - means1
    squares = squares1 + squares2 + np.sum((n1 * share)[:, None] * np.square(apart), axis=0)
    return counts, means1 + share[:, None] * apart, squares


def naive_bayes_classifier(counts, means, squares, epsilon, xp):
    """Kernel `(d, K)` and bias `(K,)` of Gaussian naive Bayes with a common variance per feature.

    `xp` is the module to compute with: `numpy` or `keras.ops`.
    """
    # Not `maximum`, which computes in float32 on PyTorch.
    total = xp.clip(xp.sum(counts), 1.0, np.inf)
    prior = xp.clip(counts / total, 1e-12, 1.0)
    scaled = means / (squares / total + epsilon)
    return xp.transpose(scaled), xp.log(prior) - 0.5 * xp.sum(scaled * means, axis=-1)
