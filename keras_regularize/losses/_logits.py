"""Whether a model trained with a loss gives out logits or probabilities."""

import keras


def uses_logits(loss) -> bool:
    """What a compiled loss says of the model's outputs; without a loss they are taken to be logits."""
    if loss is None:
        return True
    if isinstance(loss, keras.losses.Loss):
        if hasattr(loss, "from_logits"):
            return bool(loss.from_logits)
        return bool(loss.get_config().get("from_logits", False))
    return False  # Names and functions of Keras take probabilities.
