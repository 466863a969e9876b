"""One cycle of the learning rate, and of the momentum against it."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_regularize.callbacks.fitting import Position, build_optimizer, check_rate
from keras_regularize.numerics import TINY
from keras_regularize.optimizers import OneCycle as Schedule
from keras_regularize.optimizers.wrapper import chain
from keras_regularize.validation import check_number


class OneCycle(keras.callbacks.Callback):
    r"""Sets the learning rate of `kr.optimizers.OneCycle` in each batch, and the momentum that mirrors it.

    The rate runs through one cycle over the whole `fit`. While it rises to its maximum, the momentum falls from
    the higher of the two values to the lower, and returns with it; after the cycle it stays at the higher.

    Keras compiles the momentum of `SGD` into the train function as a constant $\mu$. Since a step is
    $v \leftarrow \mu v - \alpha g$, multiplying the velocity $v$ by $\mu_t / \mu$ before it gives exactly the
    step with $\mu_t$, on every backend and without compiling anew; that is what happens here. For optimizers
    where this is not exact (Nesterov momentum, Adam and its kin) pass `momentum=None`.

    A training that is resumed by `fit(…, initial_epoch=…)` goes on in the cycle.

    Args:
        max_learning_rate: The largest rate, see `kr.optimizers.OneCycle`, as for the next three.
        initial_divisor: At least 1.
        final_divisor: At least 1.
        cycle_fraction: Part of the training in the cycle, above 0 and at most 1.
        momentum: Lowest and highest momentum, between 0 and 1; or None to cycle the rate alone.

    Raises:
        ValueError: If an argument is out of range; when training begins, if the learning rate is a schedule, if
            the length of an epoch is unknown, or with `momentum`, if the optimizer is not (a wrapper of)
            `keras.optimizers.SGD` with a momentum above 0, without Nesterov, or if there are several
            `steps_per_execution`.

    Cost: one pass over the velocities per batch.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(momentum=0.9), "mse")
    cycle = kr.callbacks.OneCycle(max_learning_rate=0.1)
    model.fit(np.ones((32, 4)), np.ones((32, 1)), 4, epochs=2, callbacks=[cycle], verbose=0)
    ```

    Reference: Leslie Smith, *A disciplined approach to neural network hyper-parameters: Part 1 -- learning rate,
    batch size, momentum, and weight decay*, 2018, arXiv:1803.09820.
    """

    def __init__(
        self,
        max_learning_rate: float,
        initial_divisor: float = 10.0,
        final_divisor: float = 100.0,
        cycle_fraction: float = 0.9,
        momentum: Sequence[float] | None = (0.85, 0.95),
    ):
        super().__init__()
        self._shape = (max_learning_rate, initial_divisor, final_divisor, cycle_fraction)
        Schedule(max_learning_rate, 1, *self._shape[1:])  # Checks the arguments.
        if momentum is not None:
            if not isinstance(momentum, Sequence) or len(momentum) != 2:
                raise ValueError(
                    "`momentum` must be the lowest and the highest momentum, or None. "
                    f"Received: momentum={momentum!r}"
                )
            momentum = [check_number("momentum", m, minimum=0, maximum=1) for m in momentum]
            if momentum[0] > momentum[1]:
                raise ValueError(
                    "`momentum` must be the lowest and then the highest momentum. "
                    f"Received: momentum={momentum!r}"
                )
        self.momentum = momentum

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        check_rate(self, self.model.optimizer)
        self._position = Position(self)
        largest, *rest = self._shape
        self._schedule = Schedule(largest, self._position.total, *rest)
        build_optimizer(self.model)
        if self.momentum is not None:
            self._check_momentum()
            # Iteration and momentum of the batch before.
            self._last: tuple[int, float] | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        self._position.epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        rate = float(ops.convert_to_numpy(self._schedule(self._position.at(batch))))
        self.model.optimizer.learning_rate = rate
        if self.momentum is not None:
            self._set_momentum(rate, *self.momentum)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        if logs is not None:
            logs["learning_rate"] = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def _set_momentum(self, rate, lowest, highest):
        sgd = list(chain(self.model.optimizer))[-1]
        highest_rate, low_rate = self._shape[0], self._shape[0] / self._shape[1]
        height = (rate - low_rate) / max(highest_rate - low_rate, TINY)
        momentum = highest - (highest - lowest) * min(max(height, 0.0), 1.0)
        iteration = int(ops.convert_to_numpy(sgd.iterations))
        # Loss scaling leaves out a step with infinite gradients: the velocity is scaled already.
        before = self._last[1] if self._last and self._last[0] == iteration else sgd.momentum
        for velocity in sgd.momentums:
            if velocity is not None and before > 0:
                velocity.assign(velocity * (momentum / before))
        self._last = (iteration, momentum)

    def _check_momentum(self):
        optimizer = list(chain(self.model.optimizer))[-1]
        known = isinstance(optimizer, keras.optimizers.SGD)
        if not known or not optimizer.momentum or optimizer.nesterov:
            raise ValueError(
                "`OneCycle` can cycle the momentum of `keras.optimizers.SGD(momentum=0.9)` without Nesterov; "
                "that of other optimizers is a constant in the compiled step. Pass `momentum=None` to cycle "
                f"the learning rate alone. Received: optimizer={optimizer!r}"
            )
        if optimizer.gradient_accumulation_steps or self.model.steps_per_execution > 1:
            raise ValueError(
                "`OneCycle` sets the momentum before each optimizer step, so a batch must be a step: without "
                "gradient accumulation and with `steps_per_execution=1`; or pass `momentum=None`."
            )
