"""Proximal training: penalties with a kink, by their proximal map instead of a subgradient."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_regularize.constraints.sparsity import (
    group_soft_threshold,
    hard_threshold,
    soft_threshold,
)
from keras_regularize.numerics import upcast
from keras_regularize.optimizers.wrapper import OptimizerWrapper
from keras_regularize.registration import export
from keras_regularize.utils.variables import check_where, chooser, is_matrix
from keras_regularize.validation import check_choice, check_number

_MAPS = {"l1": soft_threshold, "group_l1": group_soft_threshold, "l0": hard_threshold}


@export
class Proximal(OptimizerWrapper):
    r"""Trains with an L1 (or group, or L0) penalty whose zeros are exact, around any Keras optimizer.

    Gradient descent on an L1 penalty steps over zero and back by about learning rate times factor and never
    reaches it. Here the wrapped optimizer takes its step on the loss *without* the penalty, and then every
    weight $w$ goes through the proximal map with threshold $t = \eta_t \lambda$, $\eta_t$ the learning rate
    of that step:

    $$\text{l1:}\ \ \operatorname{sign}(w)\max(|w| - t, 0) \qquad
    \text{group\_l1:}\ \ w_f \max\!\left(1 - \frac{t}{\lVert w_f\rVert_2}, 0\right) \qquad
    \text{l0:}\ \ w\,[\,|w| > t\,]$$

    With SGD and "l1" that is ISTA: its fixed points are exactly the stationary points of loss $+\ \lambda
    \lVert w\rVert_1$, for a linear model the LASSO solution. With "group_l1" whole filters $w_f$, the weights
    that feed one unit or channel, vanish together. "l0" keeps or drops a weight and shrinks none; with
    threshold $t$ it is the proximal map of $\tfrac12 t^2$ per nonzero weight, so here $\lambda$ is not the
    price of a weight. A factor of 0 leaves the wrapped optimizer as it is.

    Only variables that have a gradient are thresholded. With Adam and its kin the threshold uses the scalar
    learning rate, not the rate of the single weight, so the solution is not exactly that of the penalized loss.
    Constraints of the variables act before the thresholding.

    Args:
        optimizer: The Keras optimizer to wrap, or its name. Without gradient accumulation and moving
            averages of the weights. Its `learning_rate` is also this optimizer's.
        factor: $\lambda \ge 0$, in units of the loss per unit of weight, or a
            `keras.optimizers.schedules.LearningRateSchedule` of it. No L1 regularizer besides.
        penalty: `"l1"`, `"group_l1"` or `"l0"`.
        where: Which variables are thresholded: the name of a variable, a list of names of variables or of layers
            on their path, or a function of the variable such as `kr.utils.AllBut`; `None` for kernels, that is
            all of rank 2 and more: not for biases and normalization parameters.
        name: Name of the optimizer.

    Raises:
        ValueError: If `factor` or `penalty` is none of these, or if the wrapped optimizer accumulates
            gradients, averages weights or is a `LossScaleOptimizer` (wrap the other way round).

    Cost: one elementwise pass over the kernels beside the wrapped optimizer's step.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(1)])
    model.compile(kr.optimizers.Proximal(keras.optimizers.SGD(0.05), factor=0.5), "mse")
    x = np.random.default_rng(0).normal(size=(64, 20))
    model.fit(x, x[:, :1], epochs=20, verbose=0)
    zeros = int((model.layers[0].get_weights()[0] == 0).sum())  # most of the 20
    ```

    Reference: Siddharth Krishna Kumar, *GD doesn't make the cut: Three ways that non-differentiability affects
    neural network training*, 2024, arXiv:2401.08426, on the failure of subgradients; the method is
    forward-backward splitting: Neal Parikh and Stephen Boyd, *Proximal Algorithms*, Foundations and Trends in
    Optimization 2014.
    """

    def __init__(
        self,
        optimizer: Any,
        factor: Any,
        penalty: str = "l1",
        where: str | Sequence[str] | Callable[[keras.Variable], bool] | None = None,
        name: str | None = None,
    ):
        factor = check_number("factor", factor, minimum=0, schedule=True)
        check_choice("penalty", penalty, tuple(_MAPS))
        where = check_where(where)
        super().__init__(optimizer, name=name)
        self.factor = factor
        self.penalty = penalty
        self.where = where

    def step(self, grads: list[Any], variables: list[keras.Variable]) -> None:
        rate = ops.cast(self.learning_rate, "float32")
        threshold = rate * ops.cast(self.scheduled(self.factor), "float32")
        super().step(grads, variables)
        chosen = chooser(self.where, is_matrix)
        for variable in variables:
            if chosen(variable):
                value = upcast(variable)
                shrunk = _MAPS[self.penalty](value, ops.cast(threshold, value.dtype))
                variable.assign(ops.cast(shrunk, variable.dtype))
