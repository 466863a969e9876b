"""The learning-rate range test."""

import math
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_regularize.callbacks.fitting import Position, build_optimizer, check_rate
from keras_regularize.validation import check_choice, check_integer, check_number


class Suggestion(NamedTuple):
    """Learning rates that a range test suggests."""

    steepest: float
    minimum: float


class LearningRateFinder(keras.callbacks.Callback):
    r"""Finds a learning rate: raises it batch by batch in a short training until the loss diverges.

    Pass it to `fit` on some epochs, then read `suggestion()`. All weights, the state of the optimizer and its
    learning rate are at the end what they were before, so the training proper can follow on the same model.
    The loss of each batch is smoothed by an average of weight $\beta$ on the past, corrected for its start;
    the training ends when that is not finite or above `stop_factor` times the smallest so far.

    For `kr.optimizers.OneCycle` take as maximum a rate a little below the one at which the loss rises. Metrics
    in the history are those of single batches.

    Args:
        minimum: First rate, above 0.
        maximum: Last rate, above `minimum`.
        steps: Batches from the first to the last; None for as many as `fit` has in all its epochs.
        mode: `"exponential"`: rates grow by a factor; `"linear"`: by a summand, as in the paper.
        smoothing: $\beta$ in [0, 1).
        stop_factor: At least 1.

    Attributes: `learning_rates`, `losses` (of the batches) and `smoothed_losses`, as lists.

    Raises:
        ValueError: If an argument is out of range; when training begins, if the learning rate is a schedule,
            or with `steps=None` if the length of an epoch is unknown.

    Cost: a copy of all state; a few hundred batches are enough.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(), "mse")
    finder = kr.callbacks.LearningRateFinder(1e-5, 10.0)
    model.fit(np.ones((64, 4)), np.ones((64, 1)), 4, epochs=4, callbacks=[finder], verbose=0)
    model.optimizer.learning_rate = finder.suggestion().minimum
    ```

    Reference: Leslie Smith, *A disciplined approach to neural network hyper-parameters: Part 1 -- learning rate,
    batch size, momentum, and weight decay*, 2018, arXiv:1803.09820; smoothing, exponential growth and the two
    suggestions are common practice.
    """

    def __init__(
        self,
        minimum: float = 1e-7,
        maximum: float = 10.0,
        steps: int | None = None,
        mode: str = "exponential",
        smoothing: float = 0.98,
        stop_factor: float = 4.0,
    ):
        super().__init__()
        self.minimum = check_number("minimum", minimum, above=0)
        self.maximum = check_number("maximum", maximum, above=self.minimum)
        self.steps = check_integer("steps", steps, minimum=2, optional=True)
        self.mode = check_choice("mode", mode, ("exponential", "linear"))
        self.smoothing = check_number("smoothing", smoothing, minimum=0, below=1)
        self.stop_factor = check_number("stop_factor", stop_factor, minimum=1)
        self.learning_rates: list[float] = []
        self.losses: list[float] = []
        self.smoothed_losses: list[float] = []

    def suggestion(self) -> Suggestion:
        """Two rates: where the smoothed loss falls fastest, and a tenth of the rate of its minimum.

        Returns:
            A named tuple with `steepest`, of the slope against the logarithm of the rate before the minimum,
            and `minimum`, the more cautious of what people use.

        Raises:
            ValueError: If there are fewer than three losses yet.
        """
        losses, rates = np.array(self.smoothed_losses), np.array(self.learning_rates)
        losses = np.where(np.isfinite(losses), losses, np.inf)
        best = int(np.argmin(losses)) if len(losses) else 0
        if len(losses) < 3:
            raise ValueError(
                "A suggestion needs at least three batches: pass the callback to `fit` before. "
                f"Received {len(losses)}."
            )
        end = max(best + 1, 2)
        slopes = np.gradient(losses[:end], np.log(rates[:end]))
        return Suggestion(float(rates[np.argmin(slopes)]), float(rates[best] / 10))

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        model = self.model
        check_rate(self, model.optimizer)
        steps = self.steps or max(Position(self).total, 2)
        space = np.geomspace if self.mode == "exponential" else np.linspace
        self._rates = space(self.minimum, self.maximum, steps)
        build_optimizer(model)
        self._state: list[np.ndarray] = [
            np.array(ops.convert_to_numpy(v))
            for v in (*model.variables, *model.optimizer.variables)
        ]
        self.learning_rates, self.losses, self.smoothed_losses = [], [], []
        self._average = 0.0

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        model = self.model
        model.optimizer.learning_rate = float(self._rates[len(self.losses)])
        model.reset_metrics()  # So that the logged loss is that of the batch.

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        loss, beta = float((logs or {})["loss"]), self.smoothing
        self.learning_rates.append(float(self._rates[len(self.losses)]))
        self.losses.append(loss)
        self._average = beta * self._average + (1 - beta) * loss
        smoothed = self._average / (1 - beta ** len(self.losses))
        self.smoothed_losses.append(smoothed)
        diverged = not math.isfinite(smoothed)
        if not diverged and len(self.losses) > 1:
            diverged = smoothed > self.stop_factor * min(self.smoothed_losses)
        if diverged or len(self.losses) == len(self._rates):
            self.model.stop_training = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        model = self.model
        for variable, value in zip((*model.variables, *model.optimizer.variables), self._state):
            variable.assign(value)
        self._state = []
