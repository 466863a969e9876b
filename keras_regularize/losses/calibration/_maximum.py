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
    first = backend.first_maximum(x)
    if labels.rows is not None:
        return crossentropy(labels, x, normalizer), x, pick(x, first)
    # One look-up for both, since its derivative writes an array of the size of the logits.
    places = ops.stack([ops.cast(labels.ids, first.dtype), first], axis=-1)
    own, top = ops.unstack(backend.take_last(x, places), 2, axis=-1)
    return normalizer - own, x, top
