"""The noise of gradients of single samples."""

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_regularize.analysis._objective import Objective
from keras_regularize.analysis._progress import progress
from keras_regularize.validation import check_choice, check_number


@dataclasses.dataclass(frozen=True)
class GradientStatistics:
    """What `gradient_statistics` measures.

    Attributes:
        trace_covariance: Trace of the covariance of the gradients of single samples.
        mean_gradient_squared_norm: Squared norm of the mean gradient over the data.
        true_gradient_squared_norm: Unbiased estimate of that of the population's gradient; it may be negative.
        noise_scale: Ratio of the first to the third, infinite where that is not positive.
        gap_change: Expected growth of test minus training loss over one full-batch step.
    """

    trace_covariance: float
    mean_gradient_squared_norm: float
    true_gradient_squared_norm: float
    noise_scale: float
    gap_change: float


def gradient_statistics(
    model: keras.Model,
    x: Any,
    y: Any = None,
    learning_rate: float = 1.0,
    method: str = "per_sample",
    *,
    sample_weight: Any = None,
    loss: Any = None,
    batch_size: int = 32,
    include_regularization: bool = False,
) -> GradientStatistics:
    r"""The noise of the gradient, and the batch size up to which larger batches pay.

    With the gradients $g_i$ of $n$ samples and their mean $m$,

    $$\operatorname{tr} C = \frac{1}{n-1} \sum_i \|g_i - m\|^2,\qquad
    |G|^2 = \|m\|^2 - \frac{\operatorname{tr} C}{n},\qquad
    \text{noise scale} = \frac{\operatorname{tr} C}{|G|^2}.$$

    At a batch size of the noise scale, noise and signal of a step are of one size: smaller batches waste little of
    the data, larger ones little of the time. `gap_change` is $\eta \operatorname{tr} C / n$: by so much one step
    of gradient descent with rate $\eta$ on the whole training set is expected to widen the gap of test and
    training loss, to first order, at weights that do not depend on that set.

    `"two_batch"` needs no gradients of single samples: from the mean squared norms $N_b$ and $N_B$ of gradients of
    batches of $b$ samples and of all $n = B$ it takes $|G|^2 = (B N_B - b N_b) / (B - b)$ and
    $\operatorname{tr} C = (N_b - N_B) / (1/b - 1/B)$, with more noise.

    Args:
        model: A built model, or a wrapper of one; it runs in inference mode and is not changed.
        x: Inputs as arrays, in any nested structure the model takes, or a dataset of batches as `fit` takes them.
        y: Labels as the loss takes them; `None` with a dataset.
        learning_rate: Rate $\eta$ of `gap_change`, at least 0.
        method: `"per_sample"` or `"two_batch"`; the latter with batches of `batch_size`, and without a smaller
            last one.
        sample_weight: Weights of samples, or `None`; also the third entry of a dataset's batches.
        loss: A loss of Keras, or a name or function of one with a value per sample; by default the compiled one.
        batch_size: Samples at once where `x` is arrays; it changes time and memory only, but where a loss takes
            the samples of a batch together, as the mean over unmasked positions does in `evaluate`.
        include_regularization: Whether the model's penalties of weights and activities are part of the loss.

    Returns:
        A frozen dataclass of floats `trace_covariance`, `mean_gradient_squared_norm`,
        `true_gradient_squared_norm`, `noise_scale` and `gap_change`.

    Raises:
        ValueError: If an argument is out of range, the model is not built, there is no loss, or there are fewer
            than two samples (or two full batches).

    Cost: a gradient per sample, one at a time, or one per batch; two vectors as large as the weights.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = np.random.normal(size=(60, 4)), np.arange(60) % 3
    print(kr.analysis.gradient_statistics(model, x, y).noise_scale)
    ```

    Reference: Sam McCandlish, Jared Kaplan, Dario Amodei and the OpenAI Dota Team, *An Empirical Model of
    Large-Batch Training*, 2018, arXiv:1812.06162.
    """
    check_number("learning_rate", learning_rate, minimum=0)
    check_choice("method", method, ("per_sample", "two_batch"))
    objective = Objective(
        "gradient_statistics",
        model,
        x,
        y,
        sample_weight,
        loss,
        batch_size,
        include_regularization,
    )
    total, squares, rows, parts = np.zeros(objective.size), 0.0, 0, 0
    gradients = _gradients(objective, one_by_one=method == "per_sample")
    for gradient, count in progress(gradients, "gradients"):
        total = total + count * gradient
        squares += float(gradient @ gradient)
        rows, parts = rows + count, parts + 1
    if parts < 2:
        raise ValueError(
            "The noise of gradients needs at least two samples, or two full batches. "
            f"Received: {rows} samples, method={method!r}"
        )
    mean = total / rows
    size = rows / parts
    # Of gradients of `size` samples; with one it is that of the definition.
    of_mean, of_parts = float(mean @ mean), squares / parts
    trace = max((of_parts - of_mean) / (1 / size - 1 / rows), 0.0)
    true = of_mean - trace / rows
    return GradientStatistics(
        trace_covariance=trace,
        mean_gradient_squared_norm=of_mean,
        true_gradient_squared_norm=true,
        noise_scale=float("inf") if true <= 0 else trace / true,
        gap_change=learning_rate * trace / rows,
    )


def _gradients(objective, one_by_one):
    """Pairs of the mean gradient of some samples and their number; of full batches or of single samples."""
    full = None
    for batch, count in objective.batches():
        full = full or count
        if not one_by_one:
            if count == full:
                yield objective.batch_gradient(batch, count), count
            continue
        for i in range(count):
            one = tree.map_structure(lambda leaf: None if leaf is None else leaf[i : i + 1], batch)  # noqa: B023
            yield objective.batch_gradient(one, 1), 1
