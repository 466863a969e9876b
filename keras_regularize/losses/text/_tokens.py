"""What the losses of sequences of tokens are given."""


def check_sequences(labels, y_pred):
    """The ids `(batch, time)` of labels for logits `(batch, time, vocabulary)`."""
    if labels.rows is not None or len(y_pred.shape) != 3:
        given = "one-hot or soft rows" if labels.ids is None else "ids"
        raise ValueError(
            "Expected token ids (batch, time) and logits (batch, time, vocabulary). "
            f"Received: {given} for y_pred.shape={tuple(y_pred.shape)}"
        )
    return labels.ids
