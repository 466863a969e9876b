"""Sample weights in the shape of what they weigh."""

from keras import ops


def aligned_weights(weight, rank):
    """Weights `(batch,)` or `(…, 1)` in the rank of values per position."""
    given = len(weight.shape)
    if given == rank + 1 and weight.shape[-1] == 1:
        return ops.squeeze(weight, axis=-1)
    if 0 < given < rank:
        return ops.expand_dims(weight, axis=tuple(range(given, rank)))
    return weight
