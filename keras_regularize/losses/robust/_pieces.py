"""What the losses of a clean and an adversarial prediction are made of."""

from keras import ops

from keras_regularize.numerics import log_probabilities
from keras_regularize.scores import class_scores
from keras_regularize.validation import compatible


def scores_of(*logits):
    """Logits of equal shapes as scores `(…, classes)`: see `class_scores`."""
    tensors = [ops.convert_to_tensor(z) for z in logits]
    if not all(compatible(z.shape, tensors[0].shape) for z in tensors):
        raise ValueError(
            "All logits must have equal shapes. "
            f"Received: {', '.join(str(tuple(z.shape)) for z in tensors)}"
        )
    return [class_scores(z, True) for z in tensors]


def log_probabilities_of(*logits):
    """Log-probabilities `(…, classes)` of logits of equal shapes."""
    return [log_probabilities(z, True) for z in scores_of(*logits)]


def complement(log_p):
    """`1 - p`, exact for `p` near 1."""
    return -ops.expm1(log_p)
