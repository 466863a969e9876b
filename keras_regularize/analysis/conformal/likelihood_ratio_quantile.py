"""Conformal prediction under covariate shift without a likelihood ratio."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_regularize.analysis.conformal._ranks import check_scores
from keras_regularize.validation import check_integer, check_number

_FOLDS = 3


class LikelihoodRatioQuantile:
    r"""Thresholds that scores of a shifted population stay below, without the likelihood ratio of the shift.

    Inputs of the target are distributed otherwise than those of the source, whose labels are known; labels of
    a given input are alike. A threshold $h(x) = \langle c, \phi(x) \rangle$ that depends on the input is found by
    quantile regression with a term that draws a multiple of it to the ratio $r = p_t / p_s$ of the densities,

    $$\min_{c, \beta}\; \operatorname*{mean}_\text{source} \rho_\alpha\big(s_i - h(x_i)\big)
      + \lambda \operatorname*{mean}_\text{unlabelled} (\beta h)^2 - 2\lambda \operatorname*{mean}_\text{target}
      \beta h,$$

    for which $r$ is not estimated (see `lrqr_objective`). At the minimum the coverage is right for the target as
    far as $r$ is near a multiple of $h$; prediction sets are the targets with scores up to $h(x)$.

    $\lambda = 0$ is quantile regression. A large $\lambda$ makes $h$ follow the shift alone, and covers less
    again. `regularization="auto"` takes, of ten values from $\lambda^*/10$ to
    $\lambda^* = n_1^{-1/3} (1/n_2 + 1/n_3)^{-1/3}$ for $n_1$ source, $n_2$ unlabelled and $n_3$ target samples,
    that of the smallest gradient of the objective in $(c, \beta)$ on samples that were left out, on average over
    three parts. It needs no labels of the target. Gains are moderate, and there is no guarantee for finite
    samples: with a good estimate of $r$ in few dimensions, `weighted_conformal_quantile` has one. With 40
    features, one of which is shifted by its standard deviation and widens the errors, and 150 source samples, the
    coverage of the target at $\alpha = 0.1$ was 0.76 for one quantile of all scores, 0.77 for $\lambda = 0$, and
    0.85 for `"auto"`, on average over 20 draws.

    Args:
        features: A function of inputs that gives the features $\phi(x)$ `(n, d)`, such as
            `encoder.predict`; `None` for inputs that are features. They are standardized, and a constant is added.
        alpha: $\alpha$ in (0, 1), the share of targets that may be missed; at most 0.5 in the theory.
        regularization: $\lambda$, at least 0, in the unit of the scores and for standardized features; or
            `"auto"`, for scores that are measured in their $1 - \alpha$ quantile less the smallest.
        seed: Seed of the split into parts.

    Attributes:
        coefficients_: $c$ `(d + 1,)` for standardized features and a constant, the last, once it is fitted.
        scale_: $\beta$, once it is fitted.
        regularization_: The $\lambda$ that was used, once it is fitted.

    Raises:
        ValueError: If an argument is out of range; if shapes do not fit; if there are fewer than three samples of
            a kind to choose $\lambda$ by; if it is used before `fit`.

    Cost: some hundred solves of $d$ linear equations, each with a product of an $n_1 \times d$ matrix with itself;
    with `"auto"` 31 times that. The problem is not convex in $c$ and $\beta$ together; the minimum found is that
    which is reached from the constant quantile.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    x, unlabeled, target = np.random.normal(size=(3, 300, 5))
    target[:, 0] += 1.0
    scores = np.abs(np.random.normal(size=300)) * np.exp(0.5 * x[:, 0])
    conformal = kr.analysis.LikelihoodRatioQuantile(alpha=0.1)
    conformal.fit(scores, x, target, unlabeled)
    threshold = conformal.threshold(target)  # Intervals are prediction ± threshold.
    ```

    Reference: Sunay Joshi, Shayan Kiyani, George Pappas, Edgar Dobriban and Hamed Hassani, *Conformal Inference
    under High-Dimensional Covariate Shifts via Likelihood-Ratio Regularization*, 2025, arXiv:2502.13030. The
    constant in the largest $\lambda$ and the unit of the scores are this package's own.
    """

    coefficients_: np.ndarray
    scale_: float
    regularization_: float

    def __init__(
        self,
        features: Callable[[Any], Any] | None = None,
        alpha: float = 0.1,
        regularization: float | str = "auto",
        seed: int = 0,
    ):
        if features is not None and not callable(features):
            raise ValueError(
                f"`features` must be a function or None. Received: features={features!r}"
            )
        self.features = features
        self.alpha = check_number("alpha", alpha, above=0, below=1)
        if regularization != "auto":
            regularization = check_number("regularization", regularization, minimum=0)
        self.regularization = regularization
        self.seed = check_integer("seed", seed, minimum=0)

    def fit(
        self, scores: Any, x_source: Any, x_target: Any, x_unlabeled: Any = None
    ) -> "LikelihoodRatioQuantile":
        """Finds the threshold.

        Args:
            scores: Scores `(n,)` of source samples that were not trained on, such as `abs(y - prediction)`.
            x_source: Their inputs, or features `(n, d)`.
            x_target: Inputs of the target, or features `(k, d)`.
            x_unlabeled: Inputs of further source samples, or features `(m, d)`; `None` for those of `x_source`.

        Returns:
            The object itself.
        """
        scores = check_scores(scores)
        source, target = self._features(x_source), self._features(x_target)
        unlabeled = source if x_unlabeled is None else self._features(x_unlabeled)
        width = {part.shape[1] for part in (source, target, unlabeled)}
        if len(source) != len(scores) or len(width) > 1 or not np.isfinite(scores).all():
            raise ValueError(
                "Expected finite scores (n,) and features (n, d), (k, d) and (m, d). Received: shapes "
                f"{scores.shape}, {source.shape}, {target.shape} and {unlabeled.shape}"
            )
        self._mean, spread = unlabeled.mean(axis=0), unlabeled.std(axis=0)
        self._spread = np.where(
            spread > 1e-12 * np.abs(self._mean).max(initial=1.0), spread, np.inf
        )
        unit = np.quantile(scores, 1.0 - self.alpha) - scores.min()
        unit = unit if unit > 0 else 1.0
        # In this unit everything is a pure number, the gradients that are compared too.
        columns = self._columns(source)
        problem = _Problem(
            scores / unit,
            columns,
            columns if x_unlabeled is None else self._columns(unlabeled),
            self._columns(target),
            self.alpha,
        )
        if isinstance(self.regularization, str):
            strength = problem.choose(np.random.default_rng(self.seed))
        else:
            strength = self.regularization / unit
        c, beta = problem.solve(strength)
        self.coefficients_, self.scale_ = unit * c, float(beta / unit)
        self.regularization_ = float(strength * unit)
        return self

    def threshold(self, x: Any) -> np.ndarray:
        """The scores up to which targets are in the prediction set.

        Args:
            x: Inputs, or features `(n, d)`.

        Returns:
            Thresholds `(n,)` in float64.
        """
        if not hasattr(self, "coefficients_"):
            raise ValueError("`LikelihoodRatioQuantile` has to be fitted first: call `fit`.")
        features = self._features(x)
        if features.shape[1] != len(self._mean):
            raise ValueError(
                f"Expected features (n, {len(self._mean)}), as in `fit`. Received: shape {features.shape}"
            )
        return self._columns(features) @ self.coefficients_

    def _features(self, x):
        x = x if self.features is None else self.features(x)
        x = np.asarray(x, "float64")
        x = x[:, None] if x.ndim == 1 else x
        if x.ndim != 2 or not len(x) or not np.isfinite(x).all():
            raise ValueError(
                f"Expected finite features (n, d) of at least one sample. Received: shape {x.shape}"
            )
        return x

    def _columns(self, features):
        """Standardized features, and a constant; those that are constant already become 0."""
        return np.append(
            (features - self._mean) / self._spread, np.ones((len(features), 1)), axis=1
        )


@dataclasses.dataclass(frozen=True, eq=False)
class _Problem:
    """Scores and features, of which the last is constant."""

    scores: np.ndarray
    source: np.ndarray
    unlabeled: np.ndarray
    target: np.ndarray
    alpha: float

    def moments(self):
        """`(E_s[φ φᵀ], E_t[φ])`."""
        return self.unlabeled.T @ self.unlabeled / len(self.unlabeled), self.target.mean(axis=0)

    def solve(self, regularization):
        """`(c, β)`: β in closed form, then `c` at the minimum of a quadratic above the objective, again and again.

        The absolute value in the pinball loss is at most `u² / 2v + v / 2`, which equals it where `v = |u|`
        (Hunter and Lange): no step increases the objective.
        """
        gram, mean = self.moments()
        size, width = self.source.shape
        c = np.zeros(width)
        c[-1] = np.quantile(self.scores, 1.0 - self.alpha)
        ridge = 1e-9 * np.eye(width)
        for _ in range(1000):
            beta = mean @ c / max(c @ gram @ c, 1e-8)
            inverse = 0.5 / (np.abs(self.scores - self.source @ c) + 1e-3)
            left = (self.source.T * inverse) @ self.source / size
            right = self.source.T @ (self.scores * inverse + 0.5 - self.alpha) / size
            left += 2.0 * regularization * beta**2 * gram + ridge
            new = np.linalg.solve(left, right + 2.0 * regularization * beta * mean)
            done = np.abs(new - c).max() < 1e-5
            c = new
            if done:
                break
        return c, mean @ c / max(c @ gram @ c, 1e-8)

    def gradient(self, c, beta, regularization):
        """Gradient of the objective in `(c, β)`."""
        gram, mean = self.moments()
        above = self.scores > self.source @ c
        pinball = -self.source.T @ (above - self.alpha) / len(self.scores)
        slope = beta * gram @ c - mean  # Half the gradient in `c` of the squared distance, over β.
        by_scale = 2.0 * regularization * c @ slope
        return np.append(pinball + 2.0 * regularization * beta * slope, by_scale)

    def part(self, *rows):
        """The same of some source, unlabelled and target samples."""
        source, unlabeled, target = rows
        return _Problem(
            self.scores[source],
            self.source[source],
            self.unlabeled[unlabeled],
            self.target[target],
            self.alpha,
        )

    def choose(self, generator):
        """The regularization whose gradient is smallest on samples that were left out."""
        sizes = [len(part) for part in (self.source, self.unlabeled, self.target)]
        if min(sizes) < _FOLDS:
            raise ValueError(
                f'`regularization="auto"` needs at least {_FOLDS} samples of each kind. Received: {sizes}'
            )
        largest = (sizes[0] * (1 / sizes[1] + 1 / sizes[2])) ** (-1 / 3)
        grid = np.linspace(largest / 10, largest, 10)
        folds = [generator.permutation(size) % _FOLDS for size in sizes]
        if self.unlabeled is self.source:
            folds[1] = folds[0]
        parts = [
            (self.part(*(f != k for f in folds)), self.part(*(f == k for f in folds)))
            for k in range(_FOLDS)
        ]
        norms = [
            np.mean([np.linalg.norm(left.gradient(*known.solve(v), v)) for known, left in parts])
            for v in grid
        ]
        return float(grid[np.argmin(norms)])
