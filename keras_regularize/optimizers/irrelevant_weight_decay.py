"""Decay of the weights that are irrelevant for the loss."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_regularize._export import export
from keras_regularize.numerics import upcast
from keras_regularize.optimizers._wrapper import (
    NORMALIZATION,
    OptimizerWrapper,
    checked_factor,
    checked_names,
    global_gradients,
    is_named,
    serialized,
)


@export
class IrrelevantWeightDecay(OptimizerWrapper):
    r"""Decays each weight by how irrelevant it is, measured by its gradient, around any Keras optimizer.

    $$w_t = w_{t-1} + \text{step} - \lambda\, w_{t-1}\, e^{-|\partial L / \partial w|}$$

    The irrelevance $e^{-|\partial L/\partial w|}$ is 1, full decay, for a weight that the loss does not feel,
    and falls to 0 as the gradient grows. The amount does not depend on the learning rate. It is that of
    `kr.optimizers.LOBSTER`, $\max(1 - s, 0)$, to first order in the sensitivity, but never quite zero.

    The gradient is compared with 1: in a network whose gradients are all far smaller the method is plain
    weight decay. `normalize=True`, which is not in the paper, divides $|\partial L/\partial w|$ by its mean
    over each variable.

    Args:
        optimizer: The Keras optimizer to wrap, or its name. Without gradient accumulation and moving
            averages of the weights. Its `learning_rate` is also this optimizer's.
        factor: $\lambda \ge 0$, at most a small part of 1, or a schedule of it. Zero is the wrapped optimizer.
        normalize: Whether gradients are compared with their mean over the variable instead of with 1.
        exclude: Names of variables, or of layers, that do not decay.
        name: Name of the optimizer.

    Raises:
        ValueError: If an argument is none of these, or if the wrapped optimizer accumulates gradients,
            averages weights or is a `LossScaleOptimizer` (wrap the other way round).

    Cost: one elementwise pass over the weights beside the wrapped optimizer's step.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    # Around `Masked`, so that `kr.callbacks.IterativePruning` can prune what has decayed.
    inner = kr.optimizers.Masked(keras.optimizers.SGD(0.1))
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(kr.optimizers.IrrelevantWeightDecay(inner, factor=1e-3), "mse")
    model.fit(np.ones((8, 4)), np.ones((8, 1)), verbose=0)
    ```

    Reference: Giovanni Bonetta, Matteo Ribero and Rossella Cancelliere, *Regularization-based Pruning of
    Irrelevant Weights in Deep Neural Architectures*, 2022, Applied Intelligence, arXiv:2204.04977.
    """

    def __init__(
        self,
        optimizer: Any,
        factor: Any = 1e-4,
        normalize: bool = False,
        exclude: Sequence[str] = NORMALIZATION,
        name: str | None = None,
    ):
        factor, exclude = checked_factor("factor", factor), checked_names("exclude", exclude)
        super().__init__(optimizer, name=name)
        self.factor = factor
        self.normalize = bool(normalize)
        self.exclude = exclude

    def step(self, grads: list[Any], variables: list[keras.Variable]) -> None:
        factor = ops.cast(self.scheduled(self.factor), "float32")
        decays = []
        for gradient, variable in zip(global_gradients(grads), variables):
            if not is_named(variable, self.exclude):
                value, relevance = upcast(variable), ops.abs(upcast(gradient))
                if self.normalize:
                    mean = ops.mean(relevance)
                    relevance = relevance / ops.where(mean > 0, mean, 1.0)
                share = ops.cast(factor, value.dtype) * ops.cast(ops.exp(-relevance), value.dtype)
                decays.append((variable, share * value))
        super().step(grads, variables)
        for variable, decay in decays:
            variable.assign(ops.cast(upcast(variable) - decay, variable.dtype))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "factor": serialized(self.factor),
            "normalize": self.normalize,
            "exclude": self.exclude,
        }
