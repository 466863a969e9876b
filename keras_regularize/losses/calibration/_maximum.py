"""Cross-entropy of logits seen from the largest one, which stays cheap to differentiate."""

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
    first = _first_maximum(ops.stop_gradient(x))
    if labels.rows is not None:
        return crossentropy(labels, x, normalizer), x, pick(x, first)
    # One look-up for both, since its derivative writes an array of the size of the logits.
    picked = backend.take_last(x, ops.stack([labels.ids, first], axis=-1))
    return normalizer - picked[..., 0], x, picked[..., 1]


def _first_maximum(x):
    if backend.RUNS_ONE_BY_ONE:
        return ops.argmax(x, axis=-1)
    # `ops.argmax` takes a hundred times as long as `ops.amax` on JAX. The largest of `x` is 0, but for a row of
    # NaNs, which has none; and the position must exist all the same.
    last = x.shape[-1] - 1
    return ops.amin(ops.where(x >= 0, ops.arange(last + 1, dtype="int32"), last), axis=-1)
