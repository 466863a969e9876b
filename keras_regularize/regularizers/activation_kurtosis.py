"""Activations without outlier channels, which are hard to quantize."""

import math
from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.numerics import mean, upcast
from keras_regularize.registration import export
from keras_regularize.regularizers.activity import to_be_divided
from keras_regularize.validation import check_integer, check_number


@export
class ActivationKurtosis(Configured, keras.regularizers.Regularizer):
    r"""Keeps single channels from standing out of a layer's outputs, so that these survive few bits.

    $$\lambda\,\operatorname{mean}_t \frac1n \sum_{c=1}^n z_{tc}^4,\qquad
    z_{tc} = \frac{x_{tc} - \bar x_t}{\sqrt{\operatorname{Var}_c x_{tc} + \epsilon}},$$

    the kurtosis over the channels $c$ of each position $t$, averaged over the positions of a batch; with a
    `target` $k$ the squared distance $(K_t - k)^2$ in its place. It is 1 for channels of two values, 3 for
    normal ones and about $n$ if one channel holds everything. Shift and scale of the activations are free. As an
    activity regularizer it returns the mean times the batch size, because Keras divides activity losses by the
    batch size, and the mean itself before Keras 3.14, which did not.

    Put it on the outputs that a quantized layer reads, and quantize those in training: activations that are
    merely regularized move the difficulty into the weights. The reduction over positions, and so the factor, is
    not settled: a port of the paper sums over tokens and blocks at 1e-5. With the mean that is taken here, try
    larger factors too.

    Args:
        factor: $\lambda \ge 0$.
        target: $k$, or `None` to minimize the kurtosis; 1.8 is that of a uniform distribution.
        axis: The axis of the channels: -1, or 1 for channels-first images. With 0 it is the kurtosis of each
            channel over the samples of a batch.
        epsilon: $\epsilon > 0$, added to the variance.

    Input: the outputs `(batch, …, channels)` of a layer. Output: a scalar in at least float32.

    Raises:
        ValueError: If an argument is out of range, or `axis` is not an axis of the activations.

    Cost: a few elementwise passes over the activations.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    layer = keras.layers.Dense(16, activity_regularizer=kr.regularizers.ActivationKurtosis(1e-5))
    ```

    Reference: Aniruddha Nrusimha, Mayank Mishra, Naigang Wang, Dan Alistarh, Rameswar Panda and Yoon Kim,
    *Mitigating the Impact of Outlier Channels for Language Model Quantization with Activation Regularization*,
    2024, arXiv:2404.03605.
    """

    def __init__(
        self,
        factor: float = 1e-5,
        target: float | None = None,
        axis: int = -1,
        epsilon: float = 1e-6,
    ):
        self.factor = check_number("factor", factor, minimum=0)
        self.target = check_number("target", target, optional=True)
        self.axis = check_integer("axis", axis)
        self.epsilon = check_number("epsilon", epsilon, above=0)

    def __call__(self, x: Any) -> Any:
        x = upcast(x)
        rank = len(x.shape)
        if not -rank <= self.axis < rank:
            raise ValueError(
                "`axis` must be an axis of the activations. "
                f"Received: axis={self.axis} for activations of shape {tuple(x.shape)}"
            )
        centred = x - mean(x, axis=self.axis, keepdims=True)
        squares = centred * centred
        variances = mean(squares, axis=self.axis, keepdims=True) + self.epsilon
        kurtosis = mean(ops.square(squares / variances), axis=self.axis)
        if self.target is not None:
            kurtosis = ops.square(kurtosis - self.target)
        # The mean times the batch size; the samples are among the positions but where they are the channels.
        over_samples = self.axis % rank == 0
        start = 0 if over_samples else 1
        size = _product(kurtosis.shape[start:], ops.shape(kurtosis)[start:])
        total = ops.sum(kurtosis) / ops.cast(size, kurtosis.dtype)
        if over_samples:
            total = total * ops.cast(ops.shape(x)[0], total.dtype)
        return self.factor * to_be_divided(total, x)


def _product(sizes, dynamic):
    return math.prod(sizes) if None not in sizes else ops.prod(dynamic)
