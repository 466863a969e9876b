"""The learning rate of one cycle."""

from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
class OneCycle(Configured, keras.optimizers.schedules.LearningRateSchedule):
    r"""Raises the learning rate far, lowers it again, and ends the training at a tiny one.

    Large rates in the middle act as regularization and, for many networks, train in a fraction of the epochs.
    With $T$ the steps, $c$ the part of them in the cycle, $\alpha_0 = \alpha_\max / d$ and the tent
    $\Lambda(t) = \max(1 - |2t/(cT) - 1|,\ 0)$,

    $$\alpha(t) = \begin{cases}
    \alpha_0 + (\alpha_\max - \alpha_0)\,\Lambda(t) & t \le cT \\
    \alpha_0 - (\alpha_0 - \alpha_0 / f)\,\frac{t - cT}{(1-c)\,T} & cT < t \le T \\
    \alpha_0 / f & t > T
    \end{cases}$$

    This is the cycle of the report. The author's logs differ: there the rate falls to 0 in as many steps as it
    rose and then stays at a thousandth of its start.

    `kr.callbacks.LearningRateFinder` finds the maximum. A schedule acts at every step, also where a compiled
    function makes several. `kr.callbacks.OneCycle` lets the momentum mirror the rate and takes the number of
    steps from `fit`.

    Args:
        max_learning_rate: $\alpha_\max > 0$, reached in the middle of the cycle.
        total_steps: Optimizer steps of the training, $T \ge 1$.
        initial_divisor: $d \ge 1$: the cycle starts and ends at `max_learning_rate / initial_divisor`.
        final_divisor: $f \ge 1$: the training ends at `max_learning_rate / initial_divisor / final_divisor`.
        cycle_fraction: $c$, above 0 and at most 1.

    Input: the step, a number or a tensor. Output: the rate, a float32 tensor of its shape.

    Raises:
        ValueError: If an argument is out of its range.

    Cost: none.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    rate = kr.optimizers.OneCycle(max_learning_rate=0.5, total_steps=20 * 391)
    optimizer = keras.optimizers.SGD(rate, momentum=0.9)
    ```

    Reference: Leslie Smith, *A disciplined approach to neural network hyper-parameters: Part 1 -- learning rate,
    batch size, momentum, and weight decay*, 2018, arXiv:1803.09820.
    """

    def __init__(
        self,
        max_learning_rate: float,
        total_steps: int,
        initial_divisor: float = 10.0,
        final_divisor: float = 100.0,
        cycle_fraction: float = 0.9,
    ):
        self.max_learning_rate = check_number("max_learning_rate", max_learning_rate, above=0)
        self.total_steps = check_integer("total_steps", total_steps, minimum=1)
        self.initial_divisor = check_number("initial_divisor", initial_divisor, minimum=1)
        self.final_divisor = check_number("final_divisor", final_divisor, minimum=1)
        self.cycle_fraction = check_number("cycle_fraction", cycle_fraction, above=0, maximum=1)

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        low = self.max_learning_rate / self.initial_divisor
        cycle = self.cycle_fraction * self.total_steps
        tent = ops.relu(1.0 - ops.abs(2.0 * step / cycle - 1.0))
        rest = max(
            self.total_steps - cycle, 1e-6
        )  # No rest: the last step jumps to the final rate.
        fall = ops.clip((step - cycle) / rest, 0.0, 1.0)
        final = low / self.final_divisor
        return low + (self.max_learning_rate - low) * tent - (low - final) * fall
