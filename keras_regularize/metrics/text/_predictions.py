"""What a language model predicts."""

from keras import ops

from keras_regularize.numerics import upcast


def predicted_tokens(y_pred):
    """Scores `(batch, time, vocabulary)`, and the best token at each position."""
    scores = upcast(y_pred)
    if len(scores.shape) != 3:
        raise ValueError(
            "Expected scores of tokens, (batch, time, vocabulary). "
            f"Received: y_pred.shape={tuple(scores.shape)}"
        )
    return scores, ops.cast(ops.argmax(scores, axis=-1), "int32")
