"""Cosine annealing with warm restarts, of learning rate and decay."""

import math
from typing import Any

import keras

from keras_regularize.callbacks.fitting import Position, build_optimizer, find_optimizer
from keras_regularize.optimizers.decoupled_weight_decay import DecoupledWeightDecay
from keras_regularize.validation import check_integer, check_number


class WarmRestarts(keras.callbacks.Callback):
    r"""Anneals learning rate and weight decay to zero by a cosine, again and again in longer runs.

    Before every batch the multiplier of `kr.optimizers.DecoupledWeightDecay` is set to

    $$\eta_t = \tfrac12 + \tfrac12 \cos\!\left(\pi\,\frac{T_\text{cur}}{T_i}\right), \qquad
    T_i = T_0\,m^i,$$

    with $T_\text{cur}$ the epochs, in fractions, since run $i$ began. Within run $i$ the decay is
    multiplied by $\sqrt{T_0/T_i}$ besides, so a decay that was normalized for the first run
    (`kr.optimizers.normalized_weight_decay(…, epochs=first_epochs)`) is normalized for each: that is AdamWR,
    or SGDWR around SGD. The best time to stop is the end of a run, after
    $T_0,\ T_0 + T_1,\ \dots$ epochs.

    A training that is resumed by `fit(…, initial_epoch=…)` goes on in the run it was in. With
    `steps_per_execution` above 1 the multipliers change once per execution. At the end of the training they
    are 1 again.

    Args:
        first_epochs: Length $T_0$ of the first run in epochs, at least 1.
        multiplier: $m \ge 1$, how much longer each run is than the one before.

    Raises:
        ValueError: If a number is out of range, if the model is not compiled with a `DecoupledWeightDecay`
            whose wrapped optimizer has a number as learning rate, or if the length of an epoch is unknown.

    Cost: two scalars set per batch.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    decay = kr.optimizers.normalized_weight_decay(0.05, batch_size=4, samples=16, epochs=1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(kr.optimizers.DecoupledWeightDecay(keras.optimizers.Adam(0.01), decay), "mse")
    restarts = kr.callbacks.WarmRestarts(first_epochs=1, multiplier=2)
    model.fit(np.ones((16, 4)), np.ones((16, 1)), 4, epochs=7, callbacks=[restarts], verbose=0)
    ```

    Reference: Ilya Loshchilov and Frank Hutter, *Decoupled Weight Decay Regularization*, ICLR 2019,
    arXiv:1711.05101; restarts: *SGDR: Stochastic Gradient Descent with Warm Restarts*, ICLR 2017.
    """

    def __init__(self, first_epochs: int, multiplier: float = 2):
        super().__init__()
        self.first_epochs = check_integer("first_epochs", first_epochs, minimum=1)
        self.multiplier = check_number("multiplier", multiplier, minimum=1)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        optimizer = find_optimizer(self.model, DecoupledWeightDecay)
        if optimizer is None or not isinstance(optimizer.learning_rate, keras.Variable):
            raise ValueError(
                "`WarmRestarts` needs a model that is compiled with `kr.optimizers.DecoupledWeightDecay` "
                "around an optimizer whose learning rate is a number. Received: "
                f"optimizer={self.model.optimizer!r}"
            )
        self._position = Position(self)
        build_optimizer(self.model)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        self._position.epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        self._set(*self._multipliers(self._position.at(batch)))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        self._set(1.0, 1.0)

    def _multipliers(self, step):
        """Of step and decay, and of the decay besides."""
        start, length = 0, self.first_epochs * self._position.steps
        while step >= start + length:
            start, length = start + length, length * self.multiplier
        share = self.first_epochs * self._position.steps / length
        return 0.5 + 0.5 * math.cos(math.pi * (step - start) / length), math.sqrt(share)

    def _set(self, multiplier, decay_multiplier):
        optimizer = find_optimizer(self.model, DecoupledWeightDecay)
        optimizer.multiplier.assign(multiplier)
        optimizer.decay_multiplier.assign(decay_multiplier)
