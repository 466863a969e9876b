"""ShakeDrop: residual branches scaled by noise that differs between the forward and the backward pass."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_regularize.layers.noise._noise import Noise
from keras_regularize.layers.noise.drop_path import check_batch, per_sample
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_number


@export
class ShakeDrop(Noise):
    r"""Scales a residual branch by random numbers, others in the backward pass than in the forward one.

    Put it at the end of a branch, after its last batch normalization: `x + ShakeDrop()(branch(x))`. In training
    one gate $b$ is drawn per batch, 1 with the survival probability $p$ and else 0, and uniform $\alpha$ and
    $\beta$ per activation. The output, and the gradient for the inputs, are

    $$y = (b + \alpha - b\,\alpha)\, x, \qquad
      \frac{\partial L}{\partial x} = (b + \beta - b\,\beta)\, \frac{\partial L}{\partial y} .$$

    An open gate thus leaves the branch as it is; behind a closed one the forward pass is disturbed by $\alpha$,
    and weights are moved by gradients of another strength. That gradient is no derivative of $y$, on purpose. At
    inference the output is the mean, $(p + (1 - p)\, \bar\alpha)\, x$ with the middle $\bar\alpha$ of the range.

    For block $l = 1 \dots L$ the authors let the survival probability fall with depth,
    `1 - l / L * (1 - 0.5)`. With both ranges `(0, 0)` it is the stochastic depth of the paper by Huang and others.

    Args:
        alpha_range: Least and largest $\alpha$.
        beta_range: Least and largest $\beta$.
        survival_probability: $p$ in [0, 1].
        level: `"element"`, an $\alpha$ and a $\beta$ for every activation as in the authors' code, or `"sample"`,
            one each per sample, as in widespread ports.
        seed: Integer seed of the draws, or None.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: floats `(batch, …)`, of any rank; the batch size may be unknown. Output: the same shape and dtype.

    Raises:
        ValueError: If an argument is out of range, or the inputs are no floats or have no batch axis.

    Cost: two draws per activation, or per sample, and a few products.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    inputs = x = keras.Input((16,))
    for l in range(1, 4):
        branch = keras.layers.BatchNormalization()(keras.layers.Dense(16, activation="relu")(x))
        branch = kr.layers.ShakeDrop(survival_probability=1 - l / 3 * 0.5)(branch)
        x = keras.layers.add([x, branch])
    model = keras.Model(inputs, x)
    model(np.ones((4, 16)), training=True)
    ```

    Reference: Yoshihiro Yamada, Masakazu Iwamura, Takuya Akiba and Koichi Kise, *ShakeDrop Regularization for Deep
    Residual Learning*, IEEE Access 2019, arXiv:1802.02375.
    """

    def __init__(
        self,
        alpha_range: Sequence[float] = (-1.0, 1.0),
        beta_range: Sequence[float] = (0.0, 1.0),
        survival_probability: float = 0.5,
        level: str = "element",
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(seed=seed, **kwargs)
        self.alpha_range = _check_range("alpha_range", alpha_range)
        self.beta_range = _check_range("beta_range", beta_range)
        self.survival_probability = check_number(
            "survival_probability", survival_probability, minimum=0, maximum=1
        )
        self.level = check_choice("level", level, ("element", "sample"))

    def _check(self, inputs):
        super()._check(inputs)
        check_batch(self, inputs)

    def _perturb(self, inputs):
        shape = ops.shape(inputs) if self.level == "element" else per_sample(inputs)
        gate = self._uniform(()) < self.survival_probability
        alpha, beta = (self._uniform(shape, *ends) for ends in (self.alpha_range, self.beta_range))
        return self._shaken(inputs, gate, alpha, beta)

    def _expected(self, inputs):
        survival = self.survival_probability
        return inputs * (survival + (1.0 - survival) * sum(self.alpha_range) / 2.0)

    def _shaken(self, inputs, gate, alpha, beta):
        """`b + α - bα` forwards, and `b + β - bβ` backwards: the difference has no gradient."""
        forward, backward = (
            inputs * ops.cast(ops.where(gate, 1.0, noise), inputs.dtype) for noise in (alpha, beta)
        )
        return backward + ops.stop_gradient(forward - backward)


def _check_range(name, value):
    """A range as a list of two numbers."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise ValueError(f"`{name}` must be two numbers. Received: {name}={value!r}")
    low, high = (check_number(name, end) for end in value)
    if low > high:
        raise ValueError(f"`{name}` must not decrease. Received: {name}={value!r}")
    return [low, high]
