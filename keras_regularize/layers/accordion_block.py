"""Wide hidden layers between narrow ones, kept simple by the F1-norm."""

from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.layers._losses import add_float_loss
from keras_regularize.numerics import safe_sqrt, upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
class AccordionBlock(Configured, keras.layers.Layer):
    r"""A shallow ReLU network as a layer, whose complexity is penalized by its F1-norm.

    $$x \mapsto b + V \max(W x + c, 0)\quad\text{with penalty}\quad
    \lambda \sum_i \lVert v_i \rVert_2 \sqrt{\lVert w_i \rVert_2^2 + c_i^2}$$

    over the hidden units $i$. A chain of such blocks, wide inside and narrow between, learns functions that are
    compositions of simple ones from few samples. The width inside may be generous: the penalty, like weight
    decay on both kernels but without shrinking what a rescaling of units could save, decides how many units
    are used. The narrow widths are what counts, see `kr.analysis.accnet_bound`; `kr.analysis.f1_norm` is the
    penalty.

    Args:
        hidden_units: Width inside, at least 1.
        units: Width of the output, at least 1.
        factor: $\lambda \ge 0$ of the penalty, which is added to the model's loss; 0 adds none. The penalty is
            added at every call, also where a model uses one block several times.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: `(batch, …, features)`. Output: `(batch, …, units)`.

    Raises:
        ValueError: If an argument is out of range.

    Cost: that of its two dense layers, and one pass over their kernels.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    model = keras.Sequential([
        keras.Input((8,)),
        kr.layers.AccordionBlock(128, 3, factor=1e-4),
        kr.layers.AccordionBlock(128, 1, factor=1e-4),
    ])
    model.compile("adam", "mse")
    ```

    Reference: Arthur Jacot, Seok Hoan Choi and Yuxiao Wen, *How DNNs break the Curse of Dimensionality:
    Compositionality and Symmetry Learning*, 2024, arXiv:2407.05664.
    """

    def __init__(self, hidden_units: int, units: int, factor: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.hidden_units = check_integer("hidden_units", hidden_units, minimum=1)
        self.units = check_integer("units", units, minimum=1)
        self.factor = check_number("factor", factor, minimum=0)
        self.hidden = keras.layers.Dense(
            self.hidden_units, activation="relu", dtype=self.dtype_policy, name="hidden"
        )
        self.outputs = keras.layers.Dense(self.units, dtype=self.dtype_policy, name="outputs")

    def build(self, input_shape: Any) -> None:
        self.hidden.build(input_shape)
        self.outputs.build(self.hidden.compute_output_shape(input_shape))

    def call(self, inputs: Any) -> Any:
        if self.factor > 0:
            products = unit_products(self.hidden.kernel, self.outputs.kernel, self.hidden.bias)
            add_float_loss(self, self.factor * ops.sum(products))
        return self.outputs(self.hidden(inputs))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], self.units)


def unit_products(kernel_in: Any, kernel_out: Any, bias_in: Any = None) -> Any:
    """Norm of the weights into each hidden unit, bias included, times that of those out of it: `(hidden,)`."""
    kernel_in, kernel_out = upcast(kernel_in), upcast(kernel_out)
    shapes = tuple(kernel_in.shape), tuple(kernel_out.shape)
    if any(len(shape) != 2 for shape in shapes) or shapes[0][1] != shapes[1][0]:
        raise ValueError(
            "`kernel_in` and `kernel_out` must be kernels (in, hidden) and (hidden, out). "
            f"Received shapes {shapes[0]} and {shapes[1]}"
        )
    incoming = ops.sum(ops.square(kernel_in), axis=0)
    if bias_in is not None:
        bias_in = upcast(bias_in)
        if tuple(bias_in.shape) != shapes[0][1:]:
            raise ValueError(
                f"`bias_in` must have an entry per hidden unit, {shapes[0][1]}. Received: bias_in of shape "
                f"{tuple(bias_in.shape)}"
            )
        incoming = incoming + ops.square(bias_in)
    return safe_sqrt(incoming) * safe_sqrt(ops.sum(ops.square(kernel_out), axis=1))
