"""What a language model predicts."""

from keras import ops

from keras_regularize.numerics import upcast


def predicted_tokens(y_pred):
    """Scores `(batch, time, vocabulary)`, the best token at each position, and where NaN hides it."""
    scores = upcast(y_pred)
    if len(scores.shape) != 3:
        raise ValueError(
            "Expected scores of tokens, (batch, time, vocabulary). "
            f"Received: y_pred.shape={tuple(scores.shape)}"
        )
    unknown = ops.any(ops.isnan(scores), axis=-1)
    return scores, ops.cast(ops.argmax(scores, axis=-1), "int32"), unknown
