"""LOBSTER: weights that the loss does not feel shrink."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_regularize.numerics import upcast
from keras_regularize.optimizers.masked import Masked
from keras_regularize.optimizers.wrapper import global_gradients
from keras_regularize.registration import export
from keras_regularize.utils.variables import NORMALIZATION, AllBut, check_where, chooser
from keras_regularize.validation import check_number


@export
class LOBSTER(Masked):
    r"""Decays each weight the more the less the loss depends on it, around any Keras optimizer.

    After the wrapped optimizer's step,

    $$w \leftarrow w - \lambda\, w \max(1 - s,\ 0), \qquad
    s = \left|\frac{\partial L}{\partial w}\right|,$$

    where the sensitivity $s$ is that before the step. A weight with $s \ge 1$ is left to the wrapped
    optimizer, one without gradient decays by the factor $1 - \lambda$; the many that end near zero can be
    pruned. Weights that are masked (`set_masks`, as in `kr.optimizers.Masked`) stay zero;
    `kr.callbacks.ThresholdPruning` is the paper's way to choose them. Nothing here depends on the learning
    rate. The amount follows the authors' code, which decays the weight after the step; the paper's formula has
    the weight before it, a difference of order $\lambda$ times the step.

    Args:
        optimizer: The Keras optimizer to wrap, or its name. Without gradient accumulation and moving
            averages of the weights. Its `learning_rate` is also this optimizer's.
        factor: $\lambda \ge 0$, at most a small part of 1, or a schedule of it. Zero is the wrapped optimizer.
        where: Which variables decay: the name of a variable, a list of names of variables or of layers on their
            path, or a function of the variable such as `kr.utils.AllBut`; `None` for all but those that
            normalization layers learn.
        name: Name of the optimizer.

    Raises:
        ValueError: If an argument is none of these, or if the wrapped optimizer accumulates gradients,
            averages weights or is a `LossScaleOptimizer` (wrap the other way round).

    Cost: two elementwise passes over the weights and the memory of one copy of them, for the masks. Every row of
    an embedding decays at every step: with two tables of 100,000 × 32 and little else, a step takes 9 times the
    processor time of SGD alone on PyTorch and 5 times on TensorFlow.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(kr.optimizers.LOBSTER(keras.optimizers.SGD(0.1), factor=1e-3), "mse")
    model.fit(np.ones((8, 4)), np.ones((8, 1)), verbose=0)
    ```

    Reference: Enzo Tartaglione, Andrea Bragagnolo, Attilio Fiandrotti and Marco Grangetto, *LOss-Based
    SensiTivity rEgulaRization: towards deep sparse neural networks*, Neural Networks 2022, arXiv:2011.09905.
    """

    def __init__(
        self,
        optimizer: Any,
        factor: Any = 1e-4,
        where: str | Sequence[str] | Callable[[keras.Variable], bool] | None = None,
        name: str | None = None,
    ):
        factor = check_number("factor", factor, minimum=0, schedule=True)
        where = check_where(where)
        super().__init__(optimizer, name=name)
        self.factor = factor
        self.where = where

    def step(self, grads: list[Any], variables: list[keras.Variable]) -> None:
        factor = ops.cast(self.scheduled(self.factor), "float32")
        insensitive = [ops.relu(1.0 - ops.abs(upcast(g))) for g in global_gradients(grads)]
        super().step(grads, variables)
        chosen = chooser(self.where, AllBut(NORMALIZATION))
        for variable, share in zip(variables, insensitive):
            if chosen(variable):
                value = upcast(variable)
                share = ops.cast(factor, value.dtype) * ops.cast(share, value.dtype)
                variable.assign(ops.cast(value - share * value, variable.dtype))
