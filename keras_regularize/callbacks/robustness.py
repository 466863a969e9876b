"""Robustness over the epochs of a training."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_regularize.analysis.robustness.meter import (
    RobustAccuracyMeter,
    checked_attacks,
)
from keras_regularize.attacks.inputs import check_inputs
from keras_regularize.validation import check_integer


class RobustAccuracy(keras.callbacks.Callback):
    """Logs at the end of epochs how accurate the model is on attacked inputs, whatever it is trained with.

    The number is that of `kr.analysis.robust_accuracy` and stands in the logs like a metric: in the history,
    and for callbacks that come later in the list, such as
    `EarlyStopping("robust_accuracy", mode="max")`. The attack is compiled once. The adversarial train steps
    can do without the callback: `kr.models.TRADES(model, evaluate_attack=…)` measures on the validation data.

    Args:
        x: Inputs as arrays, in any nested structure the model takes.
        y: Their labels, as `kr.analysis.robust_accuracy` takes them.
        attack: A callable `attack(model, x, y)` that returns perturbed inputs, such as `kr.attacks.PGD(...)`,
            or a list of several: a sample must then withstand all.
        every: Number of epochs from one measurement to the next, at least 1. Epochs without one have no
            entry in the logs.
        batch_size: Number of samples attacked at once, at least 1.
        name: Key of the number in the logs.

    Raises:
        ValueError: If `attack` is no attack, or one of directions or targets, if the inputs lie farther than its
            `epsilon` outside its bounds, or a number is not positive.

    Cost: per measurement that of `kr.analysis.robust_accuracy`.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.random.default_rng(0).random((20, 4))
    y = np.arange(20) % 3
    robust = kr.callbacks.RobustAccuracy(x, y, kr.attacks.FGSM(epsilon=0.1))
    history = model.fit(x, y, epochs=2, callbacks=[robust], verbose=0)
    history.history["robust_accuracy"]
    ```
    """

    def __init__(
        self,
        x: Any,
        y: Any,
        attack: Callable | Sequence[Callable],
        every: int = 1,
        batch_size: int = 128,
        name: str = "robust_accuracy",
    ):
        super().__init__()
        for checked in checked_attacks(attack, batch_size):
            check_inputs(checked, tree.map_structure(np.asarray, x))
        self.x, self.y = x, y
        self.attack = attack
        self.every = check_integer("every", every, minimum=1)
        self.batch_size = batch_size
        self.name = name
        self._meter: RobustAccuracyMeter  # Made when the model is known.

    def set_model(self, model: keras.Model) -> None:
        """Called by Keras."""
        super().set_model(model)
        self._meter = RobustAccuracyMeter(model, self.attack, self.batch_size)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        if (epoch + 1) % self.every == 0 and logs is not None:
            logs[self.name] = self._meter(self.x, self.y)
