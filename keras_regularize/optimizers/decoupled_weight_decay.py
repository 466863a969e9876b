"""Weight decay that does not depend on the learning rate."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_regularize.numerics import upcast
from keras_regularize.optimizers.wrapper import OptimizerWrapper, is_schedule
from keras_regularize.registration import export
from keras_regularize.utils.variables import check_where, chooser, everything
from keras_regularize.validation import check_integer, check_number


def normalized_weight_decay(
    weight_decay: float, batch_size: int, samples: int, epochs: int
) -> float:
    r"""Weight decay per step that fits the length of a training, from one that fits all lengths.

    $$\lambda = \lambda_\text{norm} \sqrt{\frac{b}{B\,T}}$$

    A good decay per step gets smaller the more steps there are. Found on a short training,
    $\lambda_\text{norm}$ carries over to longer ones and to other batch sizes; the paper has 0.025 to 0.05 on
    CIFAR-10.

    Args:
        weight_decay: The normalized decay $\lambda_\text{norm} \ge 0$.
        batch_size: Samples in a batch, $b$.
        samples: Samples in the training set, $B$.
        epochs: Epochs of the training, or of its first run if it restarts, $T$.

    Returns:
        $\lambda$, the `weight_decay` of `kr.optimizers.DecoupledWeightDecay`.

    Raises:
        ValueError: If `weight_decay` is negative or a size is not a positive integer.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    decay = kr.optimizers.normalized_weight_decay(0.025, batch_size=128, samples=50_000, epochs=100)
    optimizer = kr.optimizers.DecoupledWeightDecay(keras.optimizers.Adam(), decay)
    ```

    Reference: Ilya Loshchilov and Frank Hutter, *Decoupled Weight Decay Regularization*, ICLR 2019,
    arXiv:1711.05101, appendix B.1.
    """
    check_number("weight_decay", weight_decay, minimum=0)
    sizes = {"batch_size": batch_size, "samples": samples, "epochs": epochs}
    for name, size in sizes.items():
        check_integer(name, size, minimum=1)
    return float(weight_decay) * math.sqrt(batch_size / (samples * epochs))


@export
class DecoupledWeightDecay(OptimizerWrapper):
    r"""Decays weights beside the step of any Keras optimizer, by an amount of its own.

    $$\theta_t = \theta_{t-1} + \text{step}(\eta_t\,\alpha) - \eta_t\,\lambda\,\theta_{t-1}$$

    Here $\text{step}(\eta_t \alpha)$ is what the wrapped optimizer does at that learning rate and $\eta_t$
    the schedule, which scales step and decay alike. `weight_decay=` of Keras' optimizers, as that of PyTorch,
    subtracts $\alpha \lambda \theta_{t-1}$: there a new learning rate asks for a new decay. Here $\alpha$ and
    $\lambda$ can be searched one after the other. Without a schedule, `SGD(alpha, weight_decay=decay / alpha)`
    of Keras is the same step. `kr.callbacks.WarmRestarts` sets $\eta_t$ during `fit`.

    `learning_rate` is $\alpha$, that of the wrapped optimizer; the decay of the paper acts before its
    constraints would, here it acts after them.

    Args:
        optimizer: The Keras optimizer to wrap, or its name, without a `weight_decay` of its own, gradient
            accumulation or moving averages of the weights.
        weight_decay: $\lambda$ in [0, 1], the part of a weight that goes at every step.
            `kr.optimizers.normalized_weight_decay` computes it.
        schedule: $\eta_t$, a `keras.optimizers.schedules.LearningRateSchedule` that gives multipliers, such
            as `CosineDecay(1.0, steps)`. The wrapped optimizer's learning rate must then be a number.
        where: Which variables decay: the name of a variable, a list of names of variables or of layers on their
            path, or a function of the variable such as `kr.utils.AllBut`; `None` for all.
        name: Name of the optimizer.

    Raises:
        ValueError: If an argument is none of these, if schedule and learning rate are both schedules, or if
            the wrapped optimizer accumulates gradients, averages weights, decays weights or is a
            `LossScaleOptimizer` (wrap the other way round).

    Cost: one elementwise pass over the weights beside the wrapped optimizer's step.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    schedule = keras.optimizers.schedules.CosineDecay(1.0, decay_steps=100)
    optimizer = kr.optimizers.DecoupledWeightDecay(
        keras.optimizers.Adam(0.001), weight_decay=0.01, schedule=schedule, where="kernel"
    )
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    model.fit(np.ones((8, 4)), np.ones((8, 1)), verbose=0)
    ```

    Reference: Ilya Loshchilov and Frank Hutter, *Decoupled Weight Decay Regularization*, ICLR 2019,
    arXiv:1711.05101.
    """

    def __init__(
        self,
        optimizer: Any,
        weight_decay: float,
        schedule: Any = None,
        where: str | Sequence[str] | Callable[[keras.Variable], bool] | None = None,
        name: str | None = None,
    ):
        weight_decay = check_number("weight_decay", weight_decay, minimum=0, maximum=1)
        if schedule is not None and not is_schedule(schedule):
            raise ValueError(
                "`schedule` must be None or a `keras.optimizers.schedules.LearningRateSchedule` of "
                f"multipliers. Received: schedule={schedule!r}"
            )
        super().__init__(optimizer, name=name)
        if self.optimizer.weight_decay:
            raise ValueError(
                "`DecoupledWeightDecay` decays the weights in the place of the optimizer it wraps, whose "
                f"`weight_decay` must be None. Received: weight_decay={self.optimizer.weight_decay}"
            )
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.where = check_where(where)
        if schedule is not None:
            self._rate_variable()

    def build(self, variables: list[keras.Variable]) -> None:
        # What `kr.callbacks.WarmRestarts` sets: of step and decay, and of the decay alone.
        options = {"shape": (), "initializer": "ones", "aggregation": "only_first_replica"}
        self.multiplier = self.add_variable(name="multiplier", **options)
        self.decay_multiplier = self.add_variable(name="decay_multiplier", **options)
        super().build(variables)

    def step(self, grads: list[Any], variables: list[keras.Variable]) -> None:
        eta = ops.cast(self.multiplier, "float32")
        if self.schedule is not None:
            eta = eta * ops.cast(self.scheduled(self.schedule), "float32")
        share = eta * ops.cast(self.decay_multiplier, "float32") * self.weight_decay
        decaying = [v for v in variables if self._decays(v)]
        decays = [upcast(v) * ops.cast(share, upcast(v).dtype) for v in decaying]
        if self.schedule is None and not isinstance(self.learning_rate, keras.Variable):
            super().step(grads, variables)
        else:
            rate = self._rate_variable()
            base = ops.copy(ops.convert_to_tensor(rate))
            rate.assign(base * ops.cast(eta, base.dtype))
            super().step(grads, variables)
            rate.assign(base)
        for variable, decay in zip(decaying, decays):
            variable.assign(ops.cast(upcast(variable) - decay, variable.dtype))

    def exclude_from_weight_decay(self, var_list: Any = None, var_names: Any = None) -> None:
        """As that of `keras.optimizers.Optimizer`, beside `where`; not saved."""
        keras.optimizers.Optimizer.exclude_from_weight_decay(self, var_list, var_names)

    def _decays(self, variable):
        return self._use_weight_decay(variable) and chooser(self.where, everything)(variable)

    def _rate_variable(self):
        """The variable in which the wrapped optimizer keeps its learning rate."""
        rate = self.optimizer.learning_rate
        if not isinstance(rate, keras.Variable):
            raise ValueError(
                "`DecoupledWeightDecay` with a `schedule` multiplies the learning rate by it, so that of the "
                "wrapped optimizer must be a number. Received an optimizer whose learning rate is a schedule "
                "itself."
            )
        return rate
