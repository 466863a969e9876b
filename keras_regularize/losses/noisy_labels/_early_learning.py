"""The penalty of early-learning regularization."""

from typing import Any

from keras import ops

from keras_regularize.numerics import upcast
from keras_regularize.validation import compatible


def early_learning_penalty(targets: Any, y_pred: Any) -> Any:
    r"""Pulls predictions towards what the network said before it began to memorize wrong labels.

    With $p = \operatorname{clip}(\operatorname{softmax}(z), 10^{-4}, 1 - 10^{-4})$ and targets $t$, usually
    the moving average of a sample's earlier predictions,

    $$r(t, z) = \log\big(1 - \langle t, p \rangle\big) \le 0 .$$

    Its gradient in the logits is $-p \odot (t - \langle t, p \rangle) / (1 - \langle t, p \rangle)$: minimising it
    raises the classes that the targets favour, the more the closer the prediction is to them already. Where the
    clip acts the gradient is 0, as in the authors' code. Add it to the cross-entropy with a factor of 1 to 7.
    Targets of zero, an empty memory, give 0.

    Args:
        targets: Probabilities $t$ `(…, classes)`; they get no gradient.
        y_pred: Logits $z$ of the same shape.

    Returns:
        One value per sample `(…)`, in at least float32.

    Raises:
        ValueError: If the shapes differ.

    Cost: one softmax.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    targets = np.array([[0.9, 0.1, 0.0]], "float32")
    logits = np.array([[2.0, 1.0, 0.0]], "float32")
    penalty = kr.losses.early_learning_penalty(targets, logits)
    ```

    Reference: Sheng Liu, Jonathan Niles-Weed, Narges Razavian and Carlos Fernandez-Granda, *Early-Learning
    Regularization Prevents Memorization of Noisy Labels*, NeurIPS 2020, arXiv:2007.00151.
    """
    logits = upcast(y_pred)
    targets = ops.stop_gradient(ops.cast(ops.convert_to_tensor(targets), logits.dtype))
    if not compatible(targets.shape, logits.shape):
        raise ValueError(
            "Expected targets and logits of one shape. "
            f"Received: targets.shape={tuple(targets.shape)}, y_pred.shape={tuple(logits.shape)}"
        )
    p = ops.clip(ops.softmax(logits, axis=-1), 1e-4, 1.0 - 1e-4)
    return ops.log(1.0 - ops.sum(targets * p, axis=-1))
