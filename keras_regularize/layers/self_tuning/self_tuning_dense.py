"""A dense layer that responds to hyperparameters."""

from typing import Any

import keras
from keras import ops

from keras_regularize.layers.self_tuning.response import Responding
from keras_regularize.registration import export
from keras_regularize.validation import check_integer


@export
class SelfTuningDense(Responding):
    r"""A dense layer whose weights follow the hyperparameters that it is trained with.

    $$y = W x + b + (C h) \odot (W' x) + (C' h) \odot b'$$

    for hyperparameters $h$ of each sample: kernel and bias that are affine in $h$, in a form of low rank that
    costs as much as two dense layers. Trained on $h$ that vary, its weights become an approximation of those that
    would be best at each $h$. `kr.models.SelfTuningNetwork` trains it so, and finds the $h$ of the least loss on
    validation data.

    With $C = C' = 0$ it is `keras.layers.Dense`. Weights are created in the order kernel $W$, bias $b$, response
    kernel $W'$, response bias $b'$, hyper kernel $(C, C')$; the first four uniform within
    $\pm 1 / \sqrt{\text{features}}$, as by the authors.

    Args:
        units: Outputs, at least 1.
        activation: As for `keras.layers.Dense`.
        use_bias: Whether there are biases.
        hyper_initializer: Initializer of the hyper kernel, `None` for a normal one of scale 0.01. `"zeros"` for
            the Delta-STN.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: `[features, hyperparameters]` of shapes `(batch, …, channels)` and `(batch, hyperparameters)`, the
    latter unconstrained. Output: `(batch, …, units)`.

    Raises:
        ValueError: If an argument is out of range, or inputs have other shapes.

    Cost: two dense layers, in weights and operations.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, h = keras.Input((8,)), keras.Input((2,))
    model = keras.Model([x, h], kr.layers.SelfTuningDense(4, activation="relu")([x, h]))
    model([np.ones((3, 8)), np.zeros((3, 2))])  # (3, 4)
    ```

    Reference: Matthew MacKay, Paul Vicol, Jon Lorraine, David Duvenaud and Roger Grosse, *Self-Tuning Networks:
    Bilevel Optimization of Hyperparameters using Structured Best-Response Functions*, ICLR 2019,
    arXiv:1903.03088.
    """

    _ranks = range(2, 100)
    _layout = "features (batch, …, channels) with a known number of channels"

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        hyper_initializer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(hyper_initializer, **kwargs)
        self.activation = keras.activations.get(activation)
        self.use_bias = bool(use_bias)
        self.units = check_integer("units", units, minimum=1)

    def _kernel_shape(self, features):
        return (features[-1], self.units)

    def _linear(self, features, kernel):
        return ops.matmul(features, kernel)

    def compute_output_shape(self, input_shape: Any) -> Any:
        features, _ = self._checked(input_shape)
        return (*features[:-1], self.units)
