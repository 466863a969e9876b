"""Stochastic depth: residual branches that are there for some samples only."""

from typing import Any

from keras import ops

from keras_regularize.layers.noise._noise import Noise
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class DropPath(Noise):
    r"""Drops a residual branch for random samples, so that a deep network trains as many shallower ones.

    Put it at the end of a branch, before the branch is added: `x + DropPath(rate)(branch(x))`. In training
    every sample $i$ draws one gate $b_i$, which is 1 with probability $1 - \text{rate}$ and 0 otherwise:

    $$y_i = \frac{b_i}{1 - \text{rate}}\, x_i .$$

    The mean is that of the inputs, and at inference they pass unchanged. A rate that grows with depth is usual:
    `rate * l / (L - 1)` for block $l = 0 \dots L - 1$, with rates of 0.1 to 0.5.

    The paper draws one gate for the whole batch, divides by nothing, and multiplies by $1 - \text{rate}$ at
    inference; a gate per sample with the division in training is what current vision networks use. For images
    it equals `keras.layers.Dropout(rate, noise_shape=(None, 1, 1, 1))`; here the rank need not be known.

    Args:
        rate: Probability that a sample loses the branch, in [0, 1).
        seed: Integer seed of the gates, or None.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: floats `(batch, …)`, of any rank; the batch size may be unknown. Output: the same shape and dtype.

    Raises:
        ValueError: If an argument is out of range, or the inputs are no floats or have no batch axis.

    Cost: a draw per sample, a division and a selection. A dropped branch is computed all the same.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    inputs = keras.Input((16,))
    branch = keras.layers.Dense(16, activation="relu")(inputs)
    outputs = keras.layers.add([inputs, kr.layers.DropPath(0.2)(branch)])
    model = keras.Model(inputs, outputs)
    model(np.ones((4, 16)), training=True)
    ```

    Reference: Gao Huang, Yu Sun, Zhuang Liu, Daniel Sedra and Kilian Weinberger, *Deep Networks with Stochastic
    Depth*, ECCV 2016, arXiv:1603.09382.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any):
        super().__init__(seed=seed, **kwargs)
        self.rate = check_number("rate", rate, minimum=0, below=1)

    def _check(self, inputs):
        super()._check(inputs)
        check_batch(self, inputs)

    def _perturb(self, inputs):
        return self._gated(inputs, self._uniform(per_sample(inputs)) >= self.rate)

    def _gated(self, inputs, kept):
        """Selected, not multiplied: what overflowed in a dropped branch is gone too."""
        return ops.where(kept, inputs / (1.0 - self.rate), 0.0)


def check_batch(layer, inputs):
    """Raises for a scalar, which has no samples."""
    if not len(inputs.shape):
        raise ValueError(
            f"`{type(layer).__name__}` needs inputs (batch, …). Received: inputs.shape=()"
        )


def per_sample(inputs):
    """The shape of one number per sample that broadcasts to the inputs."""
    return (ops.shape(inputs)[0], *(1,) * (len(inputs.shape) - 1))
