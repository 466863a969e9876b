"""Decay of the weights that are irrelevant for the loss."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.numerics import mean, upcast
from keras_regularize.optimizers.wrapper import OptimizerWrapper, global_gradients
from keras_regularize.registration import export
from keras_regularize.utils.variables import check_where, chooser, everything
from keras_regularize.validation import check_number


@export
class IrrelevantWeightDecay(OptimizerWrapper):
    r"""Penalizes each weight by how irrelevant it is, measured by its gradient, around any Keras optimizer.

    $$L + \lambda \sum_i e^{-|\partial L / \partial w_i| / \alpha}\, w_i^2$$

    with the irrelevance $e^{-|\partial L/\partial w|/\alpha}$ taken as a constant. It is 1 for a weight that the
    loss does not feel and falls to 0 as the gradient grows. So the wrapped optimizer, its moments and learning
    rate, sees

    $$g + 2\lambda\, e^{-|g|/\alpha}\, w, \qquad g = \frac{\partial L}{\partial w},$$

    for every trainable variable, biases and normalization included. Without a gradient that is an L2 penalty of
    $\lambda$. `kr.optimizers.LOBSTER` weighs weights alike to first order in the sensitivity, but decays them
    after the step, whatever the learning rate.

    The gradient is compared with $\alpha$ in absolute terms: in a network whose gradients are all far smaller the
    method is plain L2. `normalize=True`, which is not in the paper, divides $|g|$ by its mean over each variable.

    The authors train with Adam, a learning rate of 1e-3 and cosine decay, and prune with
    `kr.callbacks.IterativePruning`. Optionally they let the factor fall to 0 within an epoch of each pruning:
    give `factor` as `keras.optimizers.schedules.PolynomialDecay(1e-5, steps_per_epoch, 0.0)`. A schedule counts
    the steps from the last pruning on, when the callback calls `restart`.

    Args:
        optimizer: The Keras optimizer to wrap, or its name. Without gradient accumulation and moving
            averages of the weights. Its `learning_rate` is also this optimizer's.
        factor: $\lambda \ge 0$, or a schedule of it. Zero is the wrapped optimizer.
        alpha: $\alpha > 0$, the gradient at which the penalty has fallen to $1/e$.
        normalize: Whether gradients are first divided by their mean over the variable.
        where: Which variables are penalized: the name of a variable, a list of names of variables or of layers
            on their path, or a function of the variable such as `kr.utils.AllBut`; `None` for all.
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
    inner = kr.optimizers.Masked(keras.optimizers.Adam(1e-3))
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(kr.optimizers.IrrelevantWeightDecay(inner, factor=1e-3), "mse")
    model.fit(np.ones((8, 4)), np.ones((8, 1)), verbose=0)
    ```

    Reference: Giovanni Bonetta, Matteo Ribero and Rossella Cancelliere, *Regularization-based Pruning of
    Irrelevant Weights in Deep Neural Architectures*, Applied Intelligence 2022, arXiv:2204.04977.
    """

    def __init__(
        self,
        optimizer: Any,
        factor: Any = 1e-5,
        alpha: float = 1.0,
        normalize: bool = False,
        where: str | Sequence[str] | Callable[[keras.Variable], bool] | None = None,
        name: str | None = None,
    ):
        factor = check_number("factor", factor, minimum=0, schedule=True)
        alpha = check_number("alpha", alpha, above=0)
        where = check_where(where)
        super().__init__(optimizer, name=name)
        self.factor = factor
        self.alpha = alpha
        self.normalize = bool(normalize)
        self.where = where

    def build(self, variables: list[keras.Variable]) -> None:
        self._restarted = self.add_variable(
            shape=(), dtype="int", aggregation="only_first_replica", name="restarted"
        )
        super().build(variables)

    def restart(self) -> None:
        """Lets a schedule of the factor begin anew; `kr.callbacks.IterativePruning` does at each pruning."""
        # By value: two variables with one buffer cannot both be donated to a step on JAX.
        self._restarted.assign(int(ops.convert_to_numpy(self.iterations)))

    def step(self, grads: list[Any], variables: list[keras.Variable]) -> None:
        since = self.iterations - ops.cast(self._restarted, self.iterations.dtype)
        factor = ops.cast(self.scheduled(self.factor, since), "float32")
        # The wrapped optimizer adds up the replicas.
        share = 2.0 * factor / backend.num_replicas()
        chosen, penalized = chooser(self.where, everything), []
        for gradient, whole, variable in zip(grads, global_gradients(grads), variables):
            if chosen(variable):
                value, relevance = upcast(variable), ops.abs(upcast(whole))
                if self.normalize:
                    average = mean(relevance)
                    relevance = relevance / ops.where(average > 0, average, 1.0)
                irrelevance = ops.cast(ops.exp(-relevance / self.alpha), value.dtype)
                penalty = ops.cast(share, value.dtype) * irrelevance * value
                gradient = gradient + ops.cast(penalty, gradient.dtype)
            penalized.append(gradient)
        super().step(penalized, variables)
