"""Proper losses of discrete generative models that can be drawn from and no more."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from keras_regularize.metrics.black_box import square_score
from keras_regularize.validation import check_integer, check_number


def black_box_square_loss(model_samples: Iterable[Any], target_samples: Iterable[Any]) -> float:
    r"""Squared distance of a discrete generative model from data, estimated from draws of both.

    With $n$ draws $x$ from the model $p$ and $m$ draws $t$ from the target $q$, all independent,

    $$\frac{1}{n (n - 1)} \sum_{i \ne j} [x_i = x_j] - \frac{2}{n\,m} \sum_{i, j} [x_i = t_j],$$

    whose expectation $\sum_k p_k^2 - 2 \sum_k p_k q_k = \|p - q\|^2 - \|q\|^2$ is smallest for $p = q$: in the
    long run no model scores better than the true one, though no probability is ever computed. It tells
    models apart where outcomes repeat; where hardly any does, as for long texts, give it something coarser,
    such as cluster ids. The value has no gradient.

    Args:
        model_samples: At least two draws from the model: ids, or strings, tuples or rows of an array.
        target_samples: At least one draw from the target, of the same kind.

    Returns:
        The estimate, a float. Negative values are usual: a perfect model has $-\sum_k q_k^2$.

    Raises:
        ValueError: If there are too few draws.

    Cost: one pass over the draws.

    Example:

    ```python
    import keras_regularize as kr

    kr.generative.black_box_square_loss(["a", "b", "b", "c"], ["b", "c"])
    ```

    Reference: Dhamma Kimpara, Rafael Frongillo and Bo Waggoner, *Proper Losses for Discrete Generative Models*,
    ICML 2023, arXiv:2211.03761. The estimate is this package's own, after their conditions.
    """
    model, target = Counter(_outcomes(model_samples)), Counter(_outcomes(target_samples))
    n, m = sum(model.values()), sum(target.values())
    if n < 2 or m < 1:
        raise ValueError(
            "Expected at least two draws from the model and one from the target. "
            f"Received: {n} and {m}"
        )
    repeats = sum(count * (count - 1) for count in model.values())
    matches = sum(count * target[outcome] for outcome, count in model.items())
    return float(square_score(repeats, n * (n - 1), matches, n * m))


def black_box_cross_entropy(
    counts: Any,
    target_samples: Iterable[Any],
    rate: float,
    return_standard_error: bool = False,
) -> float | tuple[float, float]:
    r"""Cross-entropy of a discrete generative model on data, from a random number of its draws.

    From a fixed number of draws no estimate of $-\log p_t$ is unbiased. From
    $N \sim \operatorname{Poisson}(\lambda)$ draws, with $m_t$ of them other than $t$, one is

    $$\sum_{j=1}^{m_t} \frac1j\, \frac{m_t (m_t - 1) \cdots (m_t - j + 1)}{\lambda^j},
      \qquad \mathbb E = \sum_{j \ge 1} \frac{(1 - p_t)^j}{j} = -\log p_t .$$

    The value is its mean over the targets. Its variance grows fast once $m_t > \lambda$: take a rate of
    several times $1 / \min_t p_t$, or average over repeated draws. `kr.generative.sequential_cross_entropy` has
    less variance for rare outcomes. The value has no gradient.

    Args:
        counts: How often each outcome was drawn from the model: `(outcomes,)` integers, or a mapping from
            outcomes to them, such as `collections.Counter(draws)`. Their sum must be Poisson distributed: draw
            `numpy.random.default_rng().poisson(rate)` times.
        target_samples: Draws from the target: ids from 0 to `outcomes - 1`, or keys of the mapping, whether in it
            or not.
        rate: $\lambda > 0$, the expected number of draws.
        return_standard_error: Whether to return the standard error of the mean over targets as well. That is
            the one due to the targets: the draws of the model are the same for all.

    Returns:
        The estimate in nats, a float; with `return_standard_error` a tuple of two, the second NaN for a single
        target.

    Raises:
        ValueError: If an argument is out of its range, or there is no target.

    Cost: for each different count, as many terms as there are draws.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    rng = np.random.default_rng(0)
    draws = rng.choice(3, size=rng.poisson(50.0), p=[0.5, 0.3, 0.2])
    kr.generative.black_box_cross_entropy(np.bincount(draws, minlength=3), [0, 0, 1, 2], rate=50.0)
    ```

    Reference: Dhamma Kimpara, Rafael Frongillo and Bo Waggoner, *Proper Losses for Discrete Generative Models*,
    ICML 2023, arXiv:2211.03761. The estimate is this package's own, after their conditions.
    """
    check_number("rate", rate, above=0)
    targets = _outcomes(target_samples)
    if not isinstance(counts, Mapping):
        shape = np.shape(counts)
        if len(shape) != 1:
            raise ValueError(
                f"`counts` must be of shape (outcomes,), or a mapping. Received: counts.shape={shape}"
            )
        counts = dict(enumerate(np.asarray(counts).tolist()))
        unknown = [t for t in targets if t not in counts]
        if unknown:
            raise ValueError(
                f"Targets must be ids from 0 to {len(counts) - 1}. Received: {unknown[0]!r}"
            )
    if any(count < 0 for count in counts.values()):
        raise ValueError(f"`counts` must be at least 0. Received: counts={counts}")
    total = sum(counts.values())
    others = [total - counts.get(t, 0) for t in targets]
    series = {m: _falling_series(m, rate) for m in set(others)}
    return _mean([series[m] for m in others], return_standard_error)


def sequential_cross_entropy(
    sampler: Callable[[int], Any],
    target_samples: Iterable[Any],
    batch_size: int = 128,
    max_draws: int = 1_000_000,
    return_standard_error: bool = False,
) -> float | tuple[float, float]:
    r"""Cross-entropy of a discrete generative model on data, drawing from the model until it hits.

    For each target $t$ the model is drawn from until $t$ comes up for the first time, in draw $K_t$. The sum

    $$\sum_{j=1}^{K_t - 1} \frac1j, \qquad \mathbb E = -\log p_t,$$

    is an unbiased estimate, of bounded variance ($\le \pi^2 / 6$) however rare the target. The value is its
    mean over the targets. Draws are never used twice, so that the targets' estimates are independent. The value
    has no gradient.

    Args:
        sampler: Function of a number `n` that returns `n` independent draws from the model: ids, or strings,
            tuples or rows of an array.
        target_samples: Draws from the target, of the same kind.
        batch_size: Number of draws to ask for at once, at least 1.
        max_draws: Number of draws, at least 1, after which a target counts as impossible, its cross-entropy as
            infinite.
        return_standard_error: Whether to return the standard error of the mean over targets as well.

    Returns:
        The estimate in nats, a float; with `return_standard_error` a tuple of two, the second NaN for a single
        target.

    Raises:
        ValueError: If an argument is out of its range, there is no target, or the sampler returns another
            number of draws.

    Cost: $1 / p_t$ draws for each target on average.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    rng = np.random.default_rng(0)
    value, error = kr.generative.sequential_cross_entropy(
        lambda n: rng.choice(3, size=n, p=[0.5, 0.3, 0.2]), [0, 0, 1, 2], return_standard_error=True
    )
    ```

    Reference: Dhamma Kimpara, Rafael Frongillo and Bo Waggoner, *Proper Losses for Discrete Generative Models*,
    ICML 2023, arXiv:2211.03761. The estimate is this package's own, after their conditions.
    """
    check_integer("batch_size", batch_size, minimum=1)
    check_integer("max_draws", max_draws, minimum=1)
    draws = _stream(sampler, batch_size)
    values = []
    for target in _outcomes(target_samples):
        misses = next((k for k in range(max_draws) if next(draws) == target), None)
        values.append(np.inf if misses is None else np.sum(1.0 / np.arange(1, misses + 1)))
    return _mean(values, return_standard_error)


def _outcomes(samples):
    """Samples as a list of hashable values."""
    samples = samples.tolist() if isinstance(samples, np.ndarray) else samples
    if hasattr(samples, "shape"):  # Tensors.
        samples = np.asarray(samples).tolist()
    return [_hashable(sample) for sample in samples]


def _hashable(sample):
    if isinstance(sample, np.ndarray):
        sample = sample.tolist()
    return tuple(map(_hashable, sample)) if isinstance(sample, (list, tuple)) else sample


def _falling_series(misses, rate):
    """`Σ_{j=1}^m m (m-1) … (m-j+1) / (j rate^j)`."""
    j = np.arange(1, misses + 1)
    with np.errstate(over="ignore"):
        return np.sum(np.cumprod((misses - j + 1) / rate) / j)


def _stream(sampler, batch_size):
    while True:
        draws = _outcomes(sampler(batch_size))
        if len(draws) != batch_size:
            raise ValueError(
                f"`sampler({batch_size})` must return {batch_size} draws. Received: {len(draws)}"
            )
        yield from draws


def _mean(values, with_error):
    """The mean, and its standard error if asked for."""
    values = np.asarray(values, "float64")
    if values.size == 0:
        raise ValueError("`target_samples` must have at least one draw. Received none.")
    mean = float(np.mean(values))
    if not with_error:
        return mean
    finite = values.size > 1 and np.isfinite(mean)
    return mean, float(np.std(values, ddof=1) / np.sqrt(values.size)) if finite else float("nan")
