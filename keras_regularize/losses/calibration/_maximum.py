"""The largest logit of a sample, cheap to differentiate."""

from keras import ops


def shared_maximum(x):
    """Largest entry of each row, and how many entries tie for it; they share the gradient.

    `ops.amax` does the same; its backward pass takes six times as long on torch.
    """
    if 0 in x.shape:  # The maximum of an empty batch raises on TensorFlow.
        total = ops.sum(x, axis=-1)
        return total, ops.ones_like(total)
    values = ops.stop_gradient(x)
    top = ops.amax(values, axis=-1, keepdims=True)
    total = ops.sum(ops.where(values >= top, x, 0.0), axis=-1)
    top = ops.squeeze(top, axis=-1)
    nonzero = (
        top != 0
    )  # Of log-probabilities, a top of 0 is a certain prediction, which has no tie.
    ties = ops.where(nonzero, ops.stop_gradient(total) / ops.where(nonzero, top, 1.0), 1.0)
    return total / ties, ties
