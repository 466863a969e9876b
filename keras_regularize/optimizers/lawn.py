"""LAWN: kernels that keep their norm, so that logits cannot grow."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_regularize.numerics import safe_norm, upcast
from keras_regularize.optimizers.wrapper import OptimizerWrapper
from keras_regularize.registration import export
from keras_regularize.utils.variables import check_where, chooser, is_matrix
from keras_regularize.validation import check_integer


@export
class LAWN(OptimizerWrapper):
    r"""After some free steps trains every kernel on the sphere of the norm that it has then.

    Once a classifier fits its data, it lowers the loss further by larger weights alone: logits grow, gradients
    vanish, training stalls and the net is overconfident. After `free_steps` steps, each one of

    $$g \leftarrow g - \frac{\langle g, w\rangle}{\lVert w\rVert^2}\, w, \qquad
    w \leftarrow w + \text{step}(g), \qquad w \leftarrow \rho\,\frac{w}{\lVert w\rVert}$$

    keeps the Frobenius norm of each kernel (of all its filters together) at $\rho$, its norm at the switch. The
    wrapped optimizer and its moments see the projected gradient. Biases and normalization parameters stay
    free. No weight decay is needed besides, as the norm is fixed.

    The paper warms the learning rate up again after the switch and then lets it fall linearly to 0; give the
    wrapped optimizer such a schedule (see the example). A kernel that is all zero stays free until it is not.

    Args:
        optimizer: The Keras optimizer to wrap, or its name. Without gradient accumulation and moving
            averages of the weights. Its `learning_rate` is also this optimizer's.
        free_steps: Steps before the norms are fixed, at least 0.
        where: Which variables keep their norm: the name of a variable, a list of names of variables or of layers
            on their path, or a function of the variable such as `kr.utils.AllBut`; `None` for all of rank 2 and
            more. Leave out embeddings, or all that is below the homogeneous part of the network, if they shall
            stay free.
        name: Name of the optimizer.

    Raises:
        ValueError: If an argument is none of these, or if the wrapped optimizer accumulates gradients,
            averages weights or is a `LossScaleOptimizer` (wrap the other way round).

    Cost: a few passes over the kernels and two norms of each beside the wrapped optimizer's step.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    class Phases(keras.optimizers.schedules.LearningRateSchedule):
        "0.01, and from the switch at step 200 on up from 0 and down again."

        def __call__(self, step):
            step = keras.ops.cast(step, "float32")
            tent = keras.ops.minimum((step - 200) / 100, (1000 - step) / 700)
            return 0.01 * keras.ops.where(step < 200, 1.0, keras.ops.relu(tent))

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile(
        kr.optimizers.LAWN(keras.optimizers.Adam(Phases()), free_steps=200),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(np.ones((6, 4)), np.arange(6) % 3, verbose=0)
    ```

    Reference: Aman Gupta, Rohan Ramanath, Jun Shi, Anika Ramachandran, Sirou Zhou, Mingzhou Zhou and S. Sathiya
    Keerthi, *Logit Attenuating Weight Normalization*, 2021, arXiv:2108.05839.
    """

    def __init__(
        self,
        optimizer: Any,
        free_steps: int,
        where: str | Sequence[str] | Callable[[keras.Variable], bool] | None = None,
        name: str | None = None,
    ):
        free_steps = check_integer("free_steps", free_steps, minimum=0)
        where = check_where(where)
        super().__init__(optimizer, name=name)
        self.free_steps = free_steps
        self.where = where

    def build(self, variables: list[keras.Variable]) -> None:
        self._radii = [
            self.add_variable(  # 0: not fixed yet.
                shape=(),
                dtype="float64" if variable.dtype == "float64" else "float32",
                aggregation="only_first_replica",
                name=f"{variable.path}_radius".replace("/", "_"),
            )
            for variable in variables
        ]
        super().build(variables)

    def step(self, grads: list[Any], variables: list[keras.Variable]) -> None:
        fixed = ops.greater_equal(self.iterations, self.free_steps)
        chosen, tangents, spheres = chooser(self.where, is_matrix), [], []
        for gradient, variable in zip(grads, variables):
            if chosen(variable):
                value, wide = upcast(variable), upcast(gradient)
                norm, slot = safe_norm(value), self._radii[self._get_variable_index(variable)]
                known = ops.convert_to_tensor(slot)
                radius = ops.where(known > 0, known, norm)
                radius = ops.where(fixed, radius, 0.0)
                unit = ops.where(radius > 0, value / ops.where(norm > 0, norm, 1.0), 0.0)
                gradient = ops.cast(wide - ops.sum(wide * unit) * unit, gradient.dtype)
                spheres.append((variable, slot, radius))
            tangents.append(gradient)
        super().step(tangents, variables)
        for variable, slot, radius in spheres:
            value = upcast(variable)
            norm = safe_norm(value)
            moves = ops.logical_and(radius > 0, norm > 0)
            scale = ops.where(moves, radius / ops.where(moves, norm, 1.0), 1.0)
            variable.assign(ops.cast(value * ops.cast(scale, value.dtype), variable.dtype))
            slot.assign(radius)
