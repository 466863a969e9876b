"""A search for the weight decay by learning-rate range tests."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_regularize.callbacks.fitting import find_optimizer
from keras_regularize.callbacks.learning_rate_finder import LearningRateFinder
from keras_regularize.optimizers import DecoupledWeightDecay
from keras_regularize.optimizers.wrapper import chain
from keras_regularize.validation import check_integer, check_number


class RangeTest(NamedTuple):
    """The curve of one range test: two lists with an entry for each batch."""

    learning_rates: list[float]
    smoothed_losses: list[float]


class WeightDecaySearch(NamedTuple):
    """What `weight_decay_search` finds.

    Attributes:
        weight_decay: The decay.
        learning_rate: A tenth of the rate at which its smoothed loss is lowest, for a constant rate.
        range_tests: `{weight_decay: RangeTest}` of all decays that were tried, to plot them.
    """

    weight_decay: float
    learning_rate: float
    range_tests: dict[float, RangeTest]


def weight_decay_search(
    model: keras.Model,
    *data: Any,
    weight_decays: Sequence[float] = (1e-2, 1e-3, 1e-4, 1e-5, 0.0),
    tolerance: float = 0.3,
    bisections: int = 3,
    finder: LearningRateFinder | None = None,
    seed: int = 0,
    verbose: int = 1,
    **fit_arguments: Any,
) -> WeightDecaySearch:
    r"""Finds the largest weight decay that still allows the highest learning rate.

    Each decay $\lambda$ gets one short training in which the learning rate rises, from the same weights and on
    the same batches. It allows rates up to $\alpha(\lambda)$, the highest at which the smoothed loss is
    lower than at the start by at least 0.9 of the largest fall that there is in any of these trainings. Chosen is
    the largest decay with

    $$\alpha(\lambda) \ge (1 - \tau)\,\max_{\lambda'} \alpha(\lambda'),$$

    and then the exponent is bisected between it and the next larger decay, if it is neither the largest nor 0.
    A large rate regularizes too, which is why the two are searched together. What is found is as much decay as the
    training bears; less may still be better on validation data.

    The decay is that of the optimizer as compiled: of `kr.optimizers.DecoupledWeightDecay` if there is one, else
    the `weight_decay` which every Keras optimizer has, and which acts as $\alpha \lambda$ per step; what was
    excluded from it stays so. At the end model and optimizer, its decay too, are what they were; set
    `model.optimizer.weight_decay` to the result, and compile anew if the model has been trained since.

    Args:
        model: A compiled model, also one of the train-step wrappers.
        *data: `x`, or `x` and `y`, as in `fit`.
        weight_decays: The decays to try, at least 0, in any order.
        tolerance: $\tau$ in [0, 1).
        bisections: Range tests after those of `weight_decays`, at least 0.
        finder: The range test. Its `maximum` must be high enough for the loss to rise again; None for
            `kr.callbacks.LearningRateFinder()`.
        seed: Set by `keras.utils.set_random_seed` for each range test.
        verbose: 0 for silence, 1 for a progress bar over the range tests.
        **fit_arguments: Further arguments of `fit`: `epochs`, `batch_size`, `callbacks`, …

    Returns:
        A named tuple of `weight_decay`, `learning_rate`, as `LearningRateFinder.suggestion().minimum`, and all
        curves in `range_tests`.

    Raises:
        ValueError: If an argument is out of range, the model is not compiled, or its learning rate is a schedule.

    Cost: a range test, a few hundred batches, for each decay and bisection, and each compiles the train step anew.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    x = np.random.default_rng(0).normal(size=(64, 4))
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(momentum=0.9), "mse")
    found = kr.hyper.weight_decay_search(
        model, x, x[:, :1], weight_decays=(1.0, 1e-1, 1e-2), batch_size=4, epochs=2, verbose=0,
        finder=kr.callbacks.LearningRateFinder(1e-4, 10.0),
    )
    model.optimizer.weight_decay = found.weight_decay
    model.optimizer.learning_rate = found.learning_rate
    ```

    Reference: Leslie Smith, *A disciplined approach to neural network hyper-parameters: Part 1 -- learning rate,
    batch size, momentum, and weight decay*, 2018, arXiv:1803.09820, which looks at the curves where there is a
    tolerance here.
    """
    candidates = sorted({float(decay) for decay in weight_decays}, reverse=True)
    if not candidates or not all(0 <= decay < math.inf for decay in candidates):
        raise ValueError(
            "`weight_decays` must be finite numbers of at least 0. "
            f"Received: weight_decays={weight_decays!r}"
        )
    check_number("tolerance", tolerance, minimum=0, below=1)
    check_integer("bisections", bisections, minimum=0)
    if not model.compiled:
        raise ValueError("`weight_decay_search` needs a compiled model.")
    finder = LearningRateFinder() if finder is None else finder
    # Set again: a first `fit` may draw a batch beforehand, to build what is not built yet.
    seeding = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: keras.utils.set_random_seed(seed)
    )
    callbacks = [finder, seeding, *(fit_arguments.pop("callbacks", None) or ())]
    owner = find_optimizer(model, DecoupledWeightDecay) or list(chain(model.optimizer))[-1]
    compiled_decay = owner.weight_decay
    range_tests = {}
    progress = keras.utils.Progbar(
        len(candidates) + bisections, verbose=verbose, unit_name="range test"
    )

    def run(decay):
        owner.weight_decay = decay
        model.make_train_function(force=True)  # The decay is a constant of the compiled step.
        keras.utils.set_random_seed(seed)
        model.fit(*data, callbacks=callbacks, verbose=0, **fit_arguments)
        range_tests[decay] = RangeTest(finder.learning_rates, finder.smoothed_losses)
        progress.add(1)

    try:
        for decay in candidates:
            run(decay)
        start = range_tests[candidates[0]].smoothed_losses[0]
        level = start - 0.9 * (start - min(_lowest(test)[1] for test in range_tests.values()))
        least = (1 - tolerance) * max(_highest(test, level) for test in range_tests.values())
        best = next(d for d in candidates if _highest(range_tests[d], level) >= least)
        larger = [decay for decay in candidates if decay > best]
        if best and larger:
            above = larger[-1]
            for _ in range(bisections):
                middle = math.sqrt(best * above)
                run(middle)
                allowed = _highest(range_tests[middle], level) >= least
                best, above = (middle, above) if allowed else (best, middle)
    finally:
        owner.weight_decay = compiled_decay
        model.make_train_function(force=True)
    progress.update(progress.target, finalize=True)
    return WeightDecaySearch(best, _lowest(range_tests[best])[0] / 10, range_tests)


def _lowest(test):
    """Learning rate and smoothed loss where this is lowest; it may not be finite at the end."""
    losses = np.nan_to_num(test.smoothed_losses, nan=np.inf)
    best = int(np.argmin(losses))
    return test.learning_rates[best], float(losses[best])


def _highest(test, level):
    """The highest learning rate at which the smoothed loss is at most that."""
    below = [r for r, loss in zip(test.learning_rates, test.smoothed_losses) if loss <= level]
    return max(below, default=0.0)
