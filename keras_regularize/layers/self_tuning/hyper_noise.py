"""Noise whose strength is a hyperparameter of each sample."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_regularize.layers.noise._noise import Noise
from keras_regularize.registration import export
from keras_regularize.validation import check_integer


class HyperNoise(Noise):
    """Noise of a strength that is an input; a subclass defines `_disturbed`."""

    def __init__(self, index: int, seed: int | None, **kwargs: Any):
        super().__init__(seed=seed, **kwargs)
        self.index = check_integer("index", index, minimum=0)

    def _check(self, inputs):
        name = type(self).__name__
        if not isinstance(inputs, (list, tuple)) or len(inputs) != 2:
            raise ValueError(
                f"`{name}` needs a list [features, values]. "
                f"Received: {type(inputs).__name__} {getattr(inputs, 'shape', '')}".rstrip()
            )
        features, values = inputs
        super()._check(features)
        shape = tuple(values.shape)
        if len(shape) != 2 or (shape[1] is not None and shape[1] <= self.index):
            raise ValueError(
                f"`{name}` needs values (batch, hyperparameters) with a column {self.index}. "
                f"Received: values of shape {shape}"
            )

    def _perturb(self, inputs):
        features, values = inputs
        strength = ops.cast(ops.stop_gradient(values[:, self.index]), "float32")
        strength = ops.reshape(strength, (-1,) + (1,) * (len(features.shape) - 1))
        return self._disturbed(features, strength)

    def _disturbed(self, features, strength):
        """The features in training; the strength is in float32."""
        raise NotImplementedError

    def _expected(self, inputs):
        return inputs[0]

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return previous_mask[0] if isinstance(previous_mask, (list, tuple)) else previous_mask

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape[0]

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> Any:
        self._check(inputs)
        return keras.KerasTensor(inputs[0].shape, inputs[0].dtype)


@export
class HyperDropout(HyperNoise):
    r"""Dropout with a rate for each sample, which is an input of the layer.

    $$y_{bi} = \frac{m_{bi}}{1 - r_b}\, x_{bi}, \qquad m_{bi} = 1 \text{ with probability } 1 - r_b$$

    in training; otherwise features pass unchanged. In a `kr.models.SelfTuningNetwork` the rate is a hyperparameter
    that moves. It has no gradient here: what the network learns of it is by how its weights respond.

    Args:
        index: Column of the values that is the rate.
        axis: An axis or several along which one draw is for all, such as 1 for the time of a sequence; `None` for
            a draw at each entry.
        seed: Integer seed of the draws, or None.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: `[features, values]` of shapes `(batch, …)` and `(batch, hyperparameters)`, the latter constrained:
    rates between 0 and 1, of which 1 drops all. Output: the features' shape and dtype.

    Raises:
        ValueError: If an argument is out of range, or inputs have other shapes or are no floats.

    Cost: a draw per entry.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    rates = np.array([[0.1], [0.9]])  # for each of two samples
    kr.layers.HyperDropout(seed=0)([np.ones((2, 10)), rates], training=True)
    ```

    Reference: Matthew MacKay, Paul Vicol, Jon Lorraine, David Duvenaud and Roger Grosse, *Self-Tuning Networks:
    Bilevel Optimization of Hyperparameters using Structured Best-Response Functions*, ICLR 2019,
    arXiv:1903.03088.
    """

    def __init__(
        self,
        index: int = 0,
        axis: int | Sequence[int] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(index, seed, **kwargs)
        self.axis = axis
        axes = () if axis is None else axis if isinstance(axis, (list, tuple)) else (axis,)
        self._axes = [check_integer("axis", entry) for entry in axes]

    def _check(self, inputs):
        super()._check(inputs)
        rank = len(inputs[0].shape)
        if any(not -rank < entry < rank or entry % rank == 0 for entry in self._axes):
            raise ValueError(
                "`axis` must be axes of the features after that of the batch. "
                f"Received: axis={self.axis}, features of shape {tuple(inputs[0].shape)}"
            )

    def _disturbed(self, features, strength):
        shape = list(ops.shape(features))
        for entry in self._axes:
            shape[entry] = 1
        # In this form a rate that is NaN stays NaN.
        dropped = self._uniform(shape) < strength
        left = 1.0 - strength
        factor = ops.where(dropped, 0.0, 1.0 / ops.where(left <= 0, 1.0, left))
        return features * ops.cast(factor, features.dtype)


@export
class HyperGaussianNoise(HyperNoise):
    r"""Gaussian noise with a standard deviation for each sample, which is an input of the layer.

    $y_{bi} = x_{bi} + \sigma_b\, \epsilon_{bi}$ in training; otherwise features pass unchanged. In a
    `kr.models.SelfTuningNetwork` the deviation is a hyperparameter that moves, without a gradient here, as the
    rate of `kr.layers.HyperDropout` does.

    Args:
        index: Column of the values that is the standard deviation.
        seed: Integer seed of the draws, or None.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: `[features, values]` of shapes `(batch, …)` and `(batch, hyperparameters)`, the latter constrained:
    deviations of at least 0. Output: the features' shape and dtype.

    Raises:
        ValueError: If an argument is out of range, or inputs have other shapes or are no floats.

    Cost: a draw per entry.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    deviations = np.array([[0.1], [0.9]])  # for each of two samples
    kr.layers.HyperGaussianNoise(seed=0)([np.ones((2, 10)), deviations], training=True)
    ```

    Reference: Matthew MacKay, Paul Vicol, Jon Lorraine, David Duvenaud and Roger Grosse, *Self-Tuning Networks:
    Bilevel Optimization of Hyperparameters using Structured Best-Response Functions*, ICLR 2019,
    arXiv:1903.03088.
    """

    def __init__(self, index: int = 0, seed: int | None = None, **kwargs: Any):
        super().__init__(index, seed, **kwargs)

    def _disturbed(self, features, strength):
        drawn = keras.random.normal(ops.shape(features), dtype="float32", seed=self.seed_generator)
        return features + ops.cast(strength * drawn, features.dtype)
