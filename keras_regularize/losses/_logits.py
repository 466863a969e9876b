"""Whether a model trained with a loss gives out logits or probabilities, and its scores in either case."""

import keras
from keras import ops

from keras_regularize.numerics import log_probabilities, upcast


def uses_logits(loss) -> bool:
    """What a compiled loss says of the model's outputs; without a loss they are taken to be logits."""
    if loss is None:
        return True
    if isinstance(loss, keras.losses.Loss):
        if hasattr(loss, "from_logits"):
            return bool(loss.from_logits)
        return bool(loss.get_config().get("from_logits", False))
    return False  # Names and functions of Keras take probabilities.


def class_scores(outputs, from_logits):
    """Scores `(…, classes)`, in at least float32, whose softmax are the probabilities.

    These are the logits, a single column beside a 0 for class 0; or log-probabilities.
    """
    if not from_logits:
        return log_probabilities(outputs, False)
    scores = upcast(outputs)
    if scores.shape[-1] == 1:
        scores = ops.concatenate([ops.zeros_like(scores), scores], axis=-1)
    return scores
