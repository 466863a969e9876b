"""Predicted distributions that are repaired on data which was not trained on."""

import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_regularize.analysis.conformal._ranks import check_levels, conformal_index
from keras_regularize.losses.probabilistic.distributions import (
    SCALE_FLOOR,
    check_cdf,
    probability_integral_transform,
)
from keras_regularize.validation import check_choice, check_number

_erfc = np.vectorize(math.erfc, otypes=["float64"])
_BLOCK = 1_000_000  # Entries of an array at a time.


class QuantileRecalibration:
    r"""Makes predicted distributions calibrated, by how they did on data that was not trained on.

    With the predicted distribution function $F$ and the probabilities $u_i = F(y_i \mid x_i)$ of $n$ calibration
    samples, in ascending order $u_{(1)} \le \dots \le u_{(n)}$, predictions become

    $$F_\text{new}(y \mid x) = R\big(F(y \mid x)\big), \qquad
      F_\text{new}^{-1}(\alpha \mid x) = F^{-1}\big(R^{-1}(\alpha) \mid x\big),$$

    | `method` | the map $R$ |
    |---|---|
    | `"empirical"` | the share of the $u_i$ up to $p$; its inverse is $u_{(\lceil (n+1)\alpha \rceil)}$ |
    | `"linear"` | linear between the points $(u_{(i)}, i / (n + 1))$, (0, 0) and (1, 1) |
    | `"kde"` | the distribution function of a logistic kernel of width $\tau$ on the $u_i$, reflected at 0 and 1 |

    The empirical inverse makes each quantile that of split conformal prediction: a new target, exchangeable with
    those of the calibration, is below it with a probability of at least $\alpha$, as long as
    $\lceil (n+1)\alpha \rceil \le n$. Above that $u_{(n)}$ is taken, of level $n / (n + 1)$ only. `"linear"` and
    `"kde"` are continuous and strictly increasing, so that the result has a density. `"kde"` does not resolve what
    piles up within $\tau$ of 0 and 1, as for distributions that are much too narrow: take it where they are nearly
    right, as after `models.RecalibratedTraining`. One map serves all inputs: it repairs how often targets fall
    below their quantiles on the whole, not for every $x$.

    Computed in float64, with probabilities near 1 by what is missing, so that also predictions that are far too
    sure are repaired: up to 37 standard deviations between target and mean, beyond which quantiles that rest on
    the sample are infinite. With `cdf=` and for `"kde"` it is fewer. `pits_` has the $u_{(i)}$ once it is fitted.

    Args:
        method: `"linear"`, `"empirical"` or `"kde"`.
        temperature: $\tau > 0$ of `"kde"`.
        cdf: For distributions other than a Gaussian or a mixture: a function `(y_true, y_pred)` of tensors that
            gives the probabilities `(...)` of values up to the targets `(...)` from predictions
            `(..., parameters)`. It is called in float32, and inverted by bisection.

    Raises:
        ValueError: If an argument is out of range; if it is used before `fit`.

    Cost: a sort of the calibration samples. A quantile of a mixture takes about 50 evaluations of its distribution
    function; `"kde"` compares what it is given with all calibration samples.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    y = np.random.normal(size=500)
    sure = np.tile([0.0, -1.0], (500, 1))  # Standard deviation softplus(-1) = 0.31, a third of the true one.
    recalibration = kr.analysis.QuantileRecalibration("linear").fit(y[:250], sure[:250])
    low, high = recalibration.quantile(sure[250:], [0.05, 0.95]).T  # About -1.64 and 1.64.
    covered = np.mean((low < y[250:]) & (y[250:] < high))  # About 0.9.
    pits = recalibration.cdf(y[250:], sure[250:])  # About uniform.
    ```

    Reference: Volodymyr Kuleshov, Nathan Fenner and Stefano Ermon, *Accurate Uncertainties for Deep Learning Using
    Calibrated Regression*, ICML 2018, arXiv:1807.00263. The maps and the relation to conformal prediction: Victor
    Dheur and Souhaib Ben Taieb, *A Large-Scale Study of Probabilistic Calibration in Neural Network Regression*,
    ICML 2023, arXiv:2306.02738.
    """

    def __init__(
        self,
        method: str = "linear",
        temperature: float = 0.01,
        cdf: Callable[[Any, Any], Any] | None = None,
    ):
        self.method = check_choice("method", method, ("linear", "empirical", "kde"))
        self.temperature = check_number("temperature", temperature, above=0)
        self.cdf_function = check_cdf(cdf)

    def fit(self, y: Any, predictions: Any) -> "QuantileRecalibration":
        """Learns the map.

        Args:
            y: Targets `(n,)` or `(n, 1)` that were not trained on; further axes are further targets.
            predictions: What `predict` gives for them, `(n, parameters)`, as in `losses.gaussian_mixture_cdf`.

        Returns:
            The object itself.
        """
        lower, upper = map(np.ravel, self._pits(y, predictions))
        if not lower.size or np.isnan(lower).any():
            raise ValueError(
                "Expected calibration samples without NaN. Received: "
                f"y.shape={np.shape(y)} with {np.isnan(lower).sum()} probabilities that are NaN"
            )
        order = np.lexsort((-upper, lower))  # Near 1 it is what is missing that tells them apart.
        self.pits_, self._upper = lower[order], upper[order]
        return self

    def cdf(self, y: Any, predictions: Any) -> np.ndarray:
        """Recalibrated probabilities of values up to `y`.

        Args:
            y: Targets `(n,)` or `(n, 1)`.
            predictions: What `predict` gives for them, `(n, parameters)`.

        Returns:
            Probabilities `(n,)`.
        """
        self._check_fitted()
        lower, upper = self._pits(y, predictions)
        if self.method == "kde":
            return self._smooth(lower)
        if self.method == "linear":
            points, (below, above) = self._points()
            found = np.where(
                lower < 0.5,
                np.interp(lower, below, points),
                np.interp(upper, above[::-1], points[::-1]),
            )
        else:
            count = len(self.pits_)
            under = np.searchsorted(self.pits_, lower, side="right")
            over = np.searchsorted(self._upper[::-1], upper, side="left")
            found = np.where(lower < 0.5, under, count - over) / count
        return np.where(np.isnan(lower), lower, found)

    def quantile(self, predictions: Any, levels: float | Sequence[float]) -> np.ndarray:
        """Recalibrated quantiles.

        Args:
            predictions: What `predict` gives, `(n, parameters)`.
            levels: One level, or several `(levels,)`, between 0 and 1.

        Returns:
            Quantiles `(n,)`, or `(n, levels)`.
        """
        self._check_fitted()
        alpha = check_levels(levels)
        if self.method == "empirical":
            index = conformal_index(len(self.pits_), alpha)
            lower, upper = self.pits_[index], self._upper[index]
        elif self.method == "linear":
            points, ends = self._points()
            lower, upper = (np.interp(alpha, points, end) for end in ends)
        else:
            zeros = np.zeros_like(alpha)
            lower = _bisect(lambda p: self._smooth(p) < alpha, zeros, zeros + 1.0)
            upper = 1.0 - lower
        predictions = np.asarray(predictions, "float64")
        if self.cdf_function is None:
            quantiles = _mixture_quantiles(predictions, lower, upper)
        else:
            quantiles = np.stack([self._invert(predictions, level) for level in lower], axis=-1)
        return quantiles if np.ndim(levels) else quantiles[..., 0]

    def _check_fitted(self):
        if not hasattr(self, "pits_"):
            raise ValueError("`QuantileRecalibration` has to learn its map first: call `fit`.")

    def _points(self):
        """What `"linear"` interpolates: recalibrated probabilities, and predicted ones `(below, above)`."""
        below = np.concatenate([[0.0], self.pits_, [1.0]])
        above = np.concatenate([[1.0], self._upper, [0.0]])
        return np.linspace(0.0, 1.0, len(below)), (below, above)

    def _smooth(self, p):
        blocks = np.array_split(np.ravel(p), 1 + np.size(p) * len(self.pits_) // _BLOCK)
        return np.concatenate([self._smooth_block(block) for block in blocks]).reshape(np.shape(p))

    def _smooth_block(self, p):
        def reflected(p):
            u = self.pits_
            parts = ((p - u, 0.0), (p + u, 1.0), (p + u - 2.0, 0.0))
            return sum(np.mean(_sigmoid(x / self.temperature) - s, axis=-1) for x, s in parts)

        low, high = reflected(np.zeros(1)), reflected(np.ones(1))
        return np.clip((reflected(p[:, None]) - low) / (high - low), 0.0, 1.0)

    def _pits(self, y, predictions):
        """Probabilities `(below, above)` of the targets."""
        y, predictions = np.asarray(y, "float64"), np.asarray(predictions, "float64")
        if y.ndim == predictions.ndim and y.shape[-1:] == (1,):
            y = y[..., 0]
        if predictions.ndim < 2 or y.shape != predictions.shape[:-1]:
            raise ValueError(
                "Expected targets (n,) or (n, 1) and predictions (n, parameters). Received: "
                f"y.shape={y.shape}, predictions.shape={predictions.shape}"
            )
        if self.cdf_function is None:
            mixture = _parameters(predictions)
            return tuple(_mixture_tail(y[..., None], mixture, s)[..., 0] for s in (1.0, -1.0))
        y, predictions = (ops.convert_to_tensor(part, "float32") for part in (y, predictions))
        values = probability_integral_transform(y, predictions, self.cdf_function)
        lower = np.asarray(ops.convert_to_numpy(values), "float64")
        return lower, 1.0 - lower

    def _invert(self, predictions, level):
        """Quantiles `(n,)` of one level under a function that is known by its values alone."""
        shape = predictions.shape[:-1]
        if level in (0.0, 1.0):
            return np.full(shape, -np.inf if level == 0.0 else np.inf)

        def below(y):
            return self._pits(y, predictions)[0] < level

        low, high = -np.ones(shape), np.ones(shape)
        for _ in range(120):  # Until 1e36, within float32.
            outside, beyond = ~below(low), below(high)
            low, high = np.where(outside, 2.0 * low, low), np.where(beyond, 2.0 * high, high)
            if not (outside.any() or beyond.any()):
                break
        return _bisect(below, low, high)


def _sigmoid(x):
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def _parameters(predictions):
    """Weights, means and standard deviations `(..., components)`, as `losses.gaussian_mixture_cdf` reads them."""
    number = predictions.shape[-1]
    if number == 2:
        means, raw = predictions[..., :1], predictions[..., 1:]
        weights = np.ones_like(means)
    elif number and number % 3 == 0:
        logits, means, raw = np.split(predictions, 3, axis=-1)
        weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
        weights = weights / weights.sum(axis=-1, keepdims=True)
    else:
        raise ValueError(
            "Expected predictions (n, 2) of a Gaussian, mean and raw scale, or (n, 3 * components) of a mixture. "
            f"Received: predictions.shape={predictions.shape}. Other distributions take `cdf=`."
        )
    return weights, means, np.logaddexp(raw, 0.0) + SCALE_FLOOR


def _mixture_tail(values, mixture, sign):
    """Probabilities below values `(..., k)` where `sign` is 1, above where it is -1."""
    weights, means, scales = (part[..., None, :] for part in mixture)
    z = (values[..., None] - means) / scales
    return np.sum(weights * 0.5 * _erfc(-math.sqrt(0.5) * np.expand_dims(sign, -1) * z), axis=-1)


def _mixture_quantiles(predictions, lower, upper):
    """Quantiles `(..., levels)`: between those of the components, which for a single one are equal."""
    mixture = _parameters(predictions)
    _, means, scales = (part[..., None, :] for part in mixture)
    own = means + scales * np.array([_normal_quantile(*p) for p in zip(lower, upper)])[:, None]
    sign = np.where(lower < 0.5, 1.0, -1.0)
    tail = np.where(lower < 0.5, lower, upper)

    def below(y):
        return sign * _mixture_tail(y, mixture, sign) < sign * tail

    return _bisect(below, own.min(axis=-1), own.max(axis=-1))


def _normal_quantile(lower, upper):
    """That of a probability below 0.5, or of one whose complement is."""
    p = float(min(lower, upper))
    z = statistics.NormalDist().inv_cdf(p) if p > 0.0 else -math.inf
    return z if lower < 0.5 else -z


def _bisect(below, low, high):
    """The least numbers between `low` and `high` that are not `below` what is looked for."""
    for _ in range(200):
        middle = 0.5 * (low + high)
        if not np.any((low < middle) & (middle < high)):  # Neighbours in float64.
            break
        left = below(middle)
        low, high = np.where(left, middle, low), np.where(left, high, middle)
    return high
