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

    A $u_i$ that is exactly 1, a target 8.3 standard deviations above the mean, makes the quantiles that rest on it
    infinite. That is a network whose own distributions are of no use: look at `ConformalQuantiles`.

    Computed in float64. `pits_` has the $u_{(i)}$ once it is fitted.

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
        pits = np.sort(self._pits(y, predictions), axis=None)
        if not pits.size or np.isnan(pits[-1]):
            raise ValueError(
                "Expected calibration samples without NaN. Received: "
                f"y.shape={np.shape(y)} with {np.isnan(pits).sum()} probabilities that are NaN"
            )
        self.pits_ = pits
        return self

    def cdf(self, y: Any, predictions: Any) -> np.ndarray:
        """Recalibrated probabilities of values up to `y`.

        Args:
            y: Targets `(n,)` or `(n, 1)`.
            predictions: What `predict` gives for them, `(n, parameters)`.

        Returns:
            Probabilities `(n,)`.
        """
        pits = self._fitted()
        p = self._pits(y, predictions)
        if self.method == "empirical":
            return np.where(np.isnan(p), p, np.searchsorted(pits, p, side="right") / len(pits))
        if self.method == "linear":
            return np.interp(p, *self._points())
        return self._smooth(p)

    def quantile(self, predictions: Any, levels: float | Sequence[float]) -> np.ndarray:
        """Recalibrated quantiles.

        Args:
            predictions: What `predict` gives, `(n, parameters)`.
            levels: One level, or several `(levels,)`, between 0 and 1.

        Returns:
            Quantiles `(n,)`, or `(n, levels)`.
        """
        pits = self._fitted()
        alpha = check_levels(levels)
        if self.method == "empirical":
            p = pits[conformal_index(len(pits), alpha)]
        elif self.method == "linear":
            p = np.interp(alpha, *reversed(self._points()))
        else:
            p = _bisect(self._smooth, np.zeros_like(alpha), np.ones_like(alpha), alpha)
        predictions = np.asarray(predictions, "float64")
        if self.cdf_function is None:
            quantiles = _mixture_quantiles(predictions, np.ravel(p))
        else:
            each = [self._invert(predictions, level) for level in np.ravel(p)]
            quantiles = np.stack(each, axis=-1)
        return quantiles if np.ndim(levels) else quantiles[..., 0]

    def _fitted(self):
        if not hasattr(self, "pits_"):
            raise ValueError("`QuantileRecalibration` has to learn its map first: call `fit`.")
        return self.pits_

    def _points(self):
        """What `"linear"` interpolates between: probabilities and recalibrated ones."""
        pits = self.pits_
        return np.concatenate([[0.0], pits, [1.0]]), np.linspace(0.0, 1.0, len(pits) + 2)

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
        y, predictions = np.asarray(y, "float64"), np.asarray(predictions, "float64")
        if y.ndim == predictions.ndim and y.shape[-1:] == (1,):
            y = y[..., 0]
        if predictions.ndim < 2 or y.shape != predictions.shape[:-1]:
            raise ValueError(
                "Expected targets (n,) or (n, 1) and predictions (n, parameters). Received: "
                f"y.shape={y.shape}, predictions.shape={predictions.shape}"
            )
        if self.cdf_function is None:
            return _mixture_cdf(y[..., None], predictions)[..., 0]
        y, predictions = (ops.convert_to_tensor(part, "float32") for part in (y, predictions))
        values = probability_integral_transform(y, predictions, self.cdf_function)
        return np.asarray(ops.convert_to_numpy(values), "float64")

    def _invert(self, predictions, level):
        """Quantiles `(n,)` of one level under a function that is known by its values alone."""
        shape = predictions.shape[:-1]
        if level in (0.0, 1.0):
            return np.full(shape, -np.inf if level == 0.0 else np.inf)
        low, high = -np.ones(shape), np.ones(shape)
        for _ in range(120):  # Until 1e36, within float32.
            outside = self._pits(low, predictions) >= level
            low = np.where(outside, 2.0 * low, low)
            beyond = self._pits(high, predictions) < level
            high = np.where(beyond, 2.0 * high, high)
            if not (outside.any() or beyond.any()):
                break
        return _bisect(lambda y: self._pits(y, predictions), low, high, level)


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


def _mixture_cdf(values, predictions):
    """Probabilities `(..., k)` of values `(..., k)` under predictions `(..., parameters)`."""
    weights, means, scales = (part[..., None, :] for part in _parameters(predictions))
    z = (values[..., None] - means) / scales
    return np.sum(weights * 0.5 * _erfc(-math.sqrt(0.5) * z), axis=-1)


def _mixture_quantiles(predictions, levels):
    """Quantiles `(..., levels)`: between those of the components, which for a single one are equal."""
    _, means, scales = (part[..., None, :] for part in _parameters(predictions))
    normal = statistics.NormalDist().inv_cdf
    ends = {0.0: -math.inf, 1.0: math.inf}
    z = np.array([ends[p] if p in ends else normal(p) for p in map(float, levels)])
    own = means + scales * z[:, None]
    return _bisect(lambda y: _mixture_cdf(y, predictions), own.min(-1), own.max(-1), levels)


def _bisect(function, low, high, levels):
    """The least numbers between `low` and `high` at which an increasing function reaches some levels."""
    for _ in range(200):
        middle = 0.5 * (low + high)
        if not np.any((low < middle) & (middle < high)):  # Neighbours in float64.
            break
        below = function(middle) < levels
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return high
