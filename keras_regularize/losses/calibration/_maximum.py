"""Cross-entropy of logits seen from the largest one, which stays cheap to differentiate."""

import numpy as np
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.labels import pick
from keras_regularize.scores import crossentropy, relative


def crossentropy_from_maximum(labels, logits):
    """`(crossentropy, x, top)` per sample: `x` logits less a number per row, `top` the largest of them.

    At ties the first one has the gradient, as with `torch.max`; `ops.amax` shares it, in a backward pass that
    takes six times as long on torch.
    """
    x, normalizer = relative(logits)
    if 0 in x.shape:
        return crossentropy(labels, x, normalizer), x, ops.sum(x, axis=-1)
    if labels.rows is not None:
        return (
            crossentropy(labels, x, normalizer),
            x,
            pick(x, ops.convert_to_tensor(_first_maximum(x))),
        )
    # One look-up for both, since its derivative writes an array of the size of the logits.
    own, top = ops.unstack(backend.take_last(x, _places(labels.ids, x)), 2, axis=-1)
    return normalizer - own, x, top


def _places(ids, x):
    """`(…, 2)`: the label and the position of the largest entry."""
    first, known = _first_maximum(x), backend.peek(ids)
    if isinstance(first, np.ndarray) and known is not None:
        return ops.convert_to_tensor(np.stack([known, first], axis=-1), dtype="int64")
    return ops.stack([ids, ops.cast(first, "int32")], axis=-1)


def _first_maximum(x):
    """Position of the largest entry, found by NumPy where it can look: torch takes 15 times as long."""
    values = backend.peek(x) if backend.RUNS_ONE_BY_ONE else None
    return backend.first_maximum(x) if values is None else values.argmax(axis=-1)
