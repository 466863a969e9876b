"""Spectral decoupling: a squared penalty on logits."""

import math
from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.numerics import upcast
from keras_regularize.registration import export
from keras_regularize.regularizers.activity import to_be_divided
from keras_regularize.validation import check_number


@export
class SpectralDecoupling(Configured, keras.regularizers.Regularizer):
    r"""Penalizes squared logits, so that an easy feature cannot starve the others of gradient.

    Cross-entropy learns whichever feature separates the classes first, and then its gradient is gone. With

    $$\lambda \cdot \frac{1}{n} \sum_{i=1}^{n} \frac{1}{K} \sum_{k=1}^{K} z_{ik}^2$$

    on the logits $z$ in place of weight decay, the logits stay finite and every feature keeps being
    learnt: on a separable binary problem they settle where $\sigma(-z) = 2\lambda z$. It also lowers
    over-confidence. As an activity regularizer it returns the sum over the batch, because Keras divides
    activity losses by the batch size, and the mean before Keras 3.14, which did not.
    `kr.losses.SpectralDecoupling` is the same penalty inside the cross-entropy, with targets other than zero.

    The paper writes $\lambda/2$; its code, followed here, has no factor 1/2.

    Args:
        factor: $\lambda \ge 0$, of the order of 1e-3 to 1e-1. Set L2 penalties and weight decay to zero.

    Input: the outputs `(batch, …)` of a layer without activation. Output: a scalar in at least float32, the
    sum over the batch (its mean, before Keras 3.14) of the mean over all other axes.

    Raises:
        ValueError: If `factor` is not a non-negative number, or if it is called on a scalar.

    Cost: one pass over the logits.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    head = keras.layers.Dense(10, activity_regularizer=kr.regularizers.SpectralDecoupling(0.1))
    ```

    Reference: Mohammad Pezeshki, Sékou-Oumar Kaba, Yoshua Bengio, Aaron Courville, Doina Precup and Guillaume
    Lajoie, *Gradient Starvation: A Learning Proclivity in Neural Networks*, 2021, arXiv:2011.09468.
    """

    def __init__(self, factor: float = 0.1):
        self.factor = check_number("factor", factor, minimum=0)

    def __call__(self, x: Any) -> Any:
        x = upcast(x)
        if not len(x.shape):
            raise ValueError(
                "`SpectralDecoupling` regularizes the outputs of a layer, of shape (batch, …). "
                "Received a scalar."
            )
        outputs = x.shape[1:]
        size = math.prod(outputs) if None not in outputs else ops.prod(ops.shape(x)[1:])
        total = ops.sum(ops.square(x)) / ops.cast(size, x.dtype)
        return self.factor * to_be_divided(total, x)
