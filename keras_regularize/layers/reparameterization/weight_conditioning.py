"""Weight conditioning: kernels whose rows or columns have unit norm."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_regularize.layers.reparameterization.kernels import index_of, kernels_of, output_axes
from keras_regularize.layers.reparameterization.reparameterized import (
    Reparameterized,
    require_kernel,
)
from keras_regularize.numerics import maximum, safe_norm, upcast
from keras_regularize.registration import export
from keras_regularize.utils.groups import member_axes
from keras_regularize.validation import check_choice, check_number

_MODES = ("output", "input", "both")


@export
class WeightConditioning(Reparameterized):
    r"""Computes with an equilibrated kernel, whose condition number is lower, so that descent is smoother.

    With the stored kernel as a matrix $M$ of shape (fan-in, out), mode `"output"` divides what feeds each
    output unit by its norm, the paper's row equilibration of $W = M^\top$:

    $$\hat M_{ij} = \frac{M_{ij}}{\max(\lVert M_{\cdot j} \rVert_2, \epsilon)},$$

    mode `"input"` divides each row of $M$, and `"both"` the columns and then the rows. Among diagonal
    preconditioners equilibration is close to the best condition number (Van der Sluis). The norms are taken
    anew in every call and differentiated through, so each gradient is orthogonal to the filter it moves and
    the size of a filter does not matter. Biases are not touched, and nothing is learnt beside the kernel.

    It is weight normalization without its gain: the scale of the outputs is fixed. Leave the last layer
    unwrapped, or follow the layer by a normalization. Unlike `keras.constraints.UnitNorm` the stored kernel
    keeps its norm, which sets the step size in directions (`weight_decay` raises it). `fold()` gives a plain
    layer for inference.

    Args:
        layer: The layer to wrap. All its kernels are conditioned. Output units are the last axis of a
            kernel; the channels and multipliers of a depthwise one, the output channels of a transposed
            convolution, the output labels of `EinsumDense` and attention.
        mode: `"output"`, `"input"` or `"both"`.
        epsilon: The norm $\epsilon > 0$ that shorter vectors are divided by. A zero vector stays zero and
            gets no gradient.
        **kwargs: `name` and other arguments of `keras.layers.Layer`.

    Inputs and outputs: those of the wrapped layer. Weights: those of the layer.

    Raises:
        ValueError: If an argument is out of range, or the layer has no kernel.

    Cost: a sum and a division over the kernel.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    model = keras.Sequential([
        keras.Input((8,)),
        kr.layers.WeightConditioning(keras.layers.Dense(16, activation="relu")),
        kr.layers.WeightConditioning(keras.layers.Dense(16, activation="relu")),
        keras.layers.Dense(1),
    ])
    model(np.ones((2, 8)))
    ```

    Reference: Saratchandran, Wang and Lucey, *Weight Conditioning for Smooth Optimization of Neural Networks*,
    ECCV 2024, arXiv:2409.03424. Whether the authors differentiate through the norms could not be checked; here
    the gradient is that of the formula.
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        mode: str = "output",
        epsilon: float = 1e-12,
        **kwargs: Any,
    ):
        super().__init__(layer, **kwargs)
        self.mode = check_choice("mode", mode, _MODES)
        self.epsilon = check_number("epsilon", epsilon, above=0)

    def build(self, *args: Any, **kwargs: Any) -> None:
        super().build(*args, **kwargs)
        require_kernel(self)
        self._axes = output_axes(self.layer)

    def _effective_of(self, variable, value):
        position = index_of(variable, kernels_of(self.layer))
        if position is None:
            return value
        return self.condition(value, self.mode, self.epsilon, self._axes[position])

    @staticmethod
    def condition(
        w: Any, mode: str = "output", epsilon: float = 1e-12, axis: int | Sequence[int] = -1
    ) -> Any:
        """The equilibrated kernel.

        Args:
            w: Kernel, of any shape.
            mode: `"output"`, `"input"` or `"both"`, as above.
            epsilon: The smallest norm that is divided by.
            axis: Axis or axes that index output units; the others index what feeds them.

        Returns:
            A tensor of the shape and dtype of `w`.

        Raises:
            ValueError: If `mode` is none of these, or `axis` does not name axes of `w`.
        """
        check_choice("mode", mode, _MODES)
        w = ops.convert_to_tensor(w)
        rank = len(w.shape)
        inputs = member_axes(w.shape, axis)
        outputs = tuple(a for a in range(rank) if a not in inputs)
        result = upcast(w)
        if mode in ("output", "both"):
            result = _divide_by_norm(result, inputs, epsilon)
        if mode in ("input", "both"):
            result = _divide_by_norm(result, outputs, epsilon)
        return ops.cast(result, w.dtype)


def _divide_by_norm(w, axes, epsilon):
    norm = safe_norm(w, axis=axes, keepdims=True)
    # The quotient's gradient at a zero vector is 1/epsilon.
    return ops.where(norm > 0, w, 0.0) / maximum(norm, epsilon)
