"""Weights that make a source sample stand for a target population."""

from typing import Any

import keras
import numpy as np

from keras_regularize.validation import check_number

_GRID = 10.0 ** np.arange(-3.0, 1.25, 0.5)
_FOLDS = 5


def target_shift_weights(
    y_source: Any,
    x_source: Any,
    x_target: Any,
    y_bandwidth: Any = None,
    x_bandwidth: Any = None,
    regularization: float = 0.01,
) -> np.ndarray:
    r"""Weights of source samples for a target population whose continuous labels are distributed otherwise.

    Under target shift the labels have other frequencies, $p_t(y) \ne p_s(y)$, while inputs of a given label look
    alike, $p_t(x \mid y) = p_s(x \mid y)$. Then the ratio $\omega(y) = p_t(y) / p_s(y)$ solves

    $$E_s[\omega(Y) \mid x] = \eta(x), \qquad \eta(x) = p_t(x) / p_s(x),$$

    which asks for inputs of the target, no labels. With Gaussian kernels $K_x, K_y$ of some bandwidths, their
    matrices with rows that sum to 1, $A$ over $x$ and $B$ over $y$, and the estimate $\hat\eta$ of the ratio of
    the densities of $x$,

    $$\hat\eta_i = \frac{\operatorname{mean}_j K_x(x_i, x^t_j)}{\operatorname{mean}_j K_x(x_i, x_j)}, \qquad
      \rho = (\lambda I + B A)^{-1} B\, (\hat\eta - 1), \qquad \omega = \max(1 + \rho, 0).$$

    The problem is ill-posed: a small $\lambda$ follows the noise of $\hat\eta$, a large one gives weights of 1.
    `TargetShift` chooses it, and reduces $x$. Kernels need few columns of $x$: take a model's prediction or some
    features. Equal samples of source and target give weights of exactly 1.

    Args:
        y_source: Labels of the source `(n,)` or `(n, outputs)`.
        x_source: Inputs of the source, or what a model makes of them, `(n,)` or `(n, columns)`.
        x_target: The same of the target `(m,)` or `(m, columns)`.
        y_bandwidth: Bandwidth of the kernel of $y$, a number or one per column, above 0; `None` for the standard
            deviation times $n^{-1/5}$, or $n^{-1/(4 + d)}$ with $d$ columns.
        x_bandwidth: The same of $x$; `None` for the standard deviation in the source times $n^{-1/(4 + d)}$.
        regularization: $\lambda > 0$.

    Returns:
        Weights `(n,)` in float64, at least 0 and about 1 on average: `fit(x, y, sample_weight=weights)`.

    Raises:
        ValueError: If shapes do not fit, an argument is out of range, a column is constant, or there are NaN.

    Cost: a solve with an $n \times n$ matrix; above 5000 samples take a part of them.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    y = np.random.normal(size=300)
    x, x_target = y + np.random.normal(size=300), 0.7 + 1.2 * np.random.normal(size=200)
    weights = kr.analysis.target_shift_weights(y, x, x_target, regularization=0.1)
    np.average(y, weights=weights)  # About 0.5, where the mean of the target is 0.7.
    ```

    Reference: Hwanwoo Kim, Xin Zhang, Jiwei Zhao and Qinglong Tian, *ReTaSA: A Nonparametric Functional Estimation
    Approach for Addressing Continuous Target Shift*, ICLR 2024, arXiv:2401.16410. The equation, the ratio of
    kernel density estimates and the Tikhonov form are the paper's; that both conditional expectations are
    smoothers on the source sample, and the bandwidths, are a reconstruction.
    """
    regularization = check_number("regularization", regularization, above=0)
    problem = _Problem(y_source, x_source, x_target, y_bandwidth, x_bandwidth)
    return np.maximum(1.0 + problem.solve(regularization), 0.0)


class TargetShift:
    r"""Weights for a target population with other labels, with a model that reduces inputs and a strength chosen.

    Finds `target_shift_weights` in three steps:

    1. $x$ becomes the prediction of `model`, of any number of columns; kernels work in few dimensions only.
    2. With `regularization="auto"` $\lambda$ is chosen among $10^{-3}, 10^{-2.5}, \dots, 10$. Source and target
       are split into five parts at random. With each $\lambda$ weights are found without one part. As a function
       of the label, $\max\big(1 + \frac1\lambda \sum_j B(y, y_j)\,(\hat\eta - 1 - A\rho)_j, 0\big)$, they are
       applied to the source samples of that part, which are compared with its target samples: by the maximum mean
       discrepancy of the $x$, with a Gaussian kernel of twice the bandwidth. Of the $\lambda$ whose mean
       discrepancy is within one standard error of the least, it is the largest: where the data do not tell,
       weights closer to 1.
    3. The weights are those of all samples with this $\lambda$.

    The choice is this package's own; the paper leaves it open. What to know about it:

    - The discrepancy sees the inputs, and so whether the weights explain the shift in $x$; where $x$ says little
      about $y$, many weights do, and it cannot tell them apart.
    - The weights are those of a shift of labels alone. If inputs of a given label look otherwise in the target,
      they are wrong, and nothing here would notice.
    - The model must not have memorized the source samples: predictions closer to the labels than those for the
      target are a shift of their own. Train it on other samples, or stop early.

    Args:
        model: A Keras model, or anything with `predict(x)`, whose prediction stands for $x$; or `None`.
        regularization: $\lambda > 0$, or `"auto"`.
        seed: Seed of the split into parts.

    Attributes:
        weights: Weights `(n,)` of the source samples, once it is fitted.
        regularization_: The $\lambda$ that was used, once it is fitted.

    Raises:
        ValueError: If an argument is out of range, shapes do not fit, there are fewer than 50 samples of source or
            target to choose $\lambda$ by, or it is used before `fit`.

    Cost: with `"auto"` 45 solves with four fifths of the samples: 15 to 20 times that
    of `target_shift_weights`.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    y = np.random.normal(size=200)
    x, x_target = (t[:, None] + np.random.normal(size=(200, 5)) for t in (y, 0.7 + 0.7 * y))
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.05), "mse")
    model.fit(x[:100], y[:100], epochs=5, verbose=0)
    shift = kr.analysis.TargetShift(model).fit(y[100:], x[100:], x_target)
    model.fit(x[100:], y[100:], sample_weight=shift.weights, verbose=0)
    ```

    Reference: Hwanwoo Kim, Xin Zhang, Jiwei Zhao and Qinglong Tian, *ReTaSA: A Nonparametric Functional Estimation
    Approach for Addressing Continuous Target Shift*, ICLR 2024, arXiv:2401.16410.
    """

    def __init__(self, model: Any = None, regularization: float | str = "auto", seed: int = 0):
        if model is not None and not hasattr(model, "predict"):
            raise ValueError(f"`model` must have `predict`, or be None. Received: model={model!r}")
        self.model = model
        if regularization != "auto":
            regularization = check_number("regularization", regularization, above=0)
        self.regularization = regularization
        self.seed = seed

    def fit(self, y_source: Any, x_source: Any, x_target: Any) -> "TargetShift":
        """Finds the weights.

        Args:
            y_source: Labels of the source `(n,)` or `(n, outputs)`.
            x_source: Inputs of the source, for the model if there is one, else `(n,)` or `(n, columns)`.
            x_target: Inputs of the target, likewise.

        Returns:
            The object itself.
        """
        if self.model is not None:
            x_source, x_target = (self._predict(x) for x in (x_source, x_target))
        problem = _Problem(y_source, x_source, x_target)
        self.regularization_ = self.regularization
        if self.regularization == "auto":
            self.regularization_ = problem.choose(np.random.default_rng(self.seed))
        self._weights = np.maximum(1.0 + problem.solve(self.regularization_), 0.0)
        return self

    @property
    def weights(self) -> np.ndarray:
        """Weights `(n,)` of the source samples."""
        if not hasattr(self, "_weights"):
            raise ValueError("`TargetShift` has to find its weights first: call `fit`.")
        return self._weights

    def _predict(self, x):
        quiet = {"verbose": 0} if isinstance(self.model, keras.Model) else {}
        predicted = np.asarray(self.model.predict(x, **quiet), "float64")
        return predicted.reshape(len(predicted), -1)


def covariate_shift_weights(
    scores: Any, target_share: float = 0.5, from_logits: bool = False
) -> np.ndarray:
    r"""Weights of source samples for a target population whose inputs are distributed otherwise.

    Under covariate shift $p_t(x) \ne p_s(x)$, while the labels of a given input are alike. A classifier that tells
    target from source, with probability $p$ of target and a share $\pi$ of target samples among those that it was
    trained on, knows the ratio of the densities:

    $$\frac{p_t(x)}{p_s(x)} = \frac{p}{1 - p} \cdot \frac{1 - \pi}{\pi}.$$

    The weights are as good as its probabilities: it should be calibrated, and give scores for samples that it was
    not trained on. Where it is sure, source and target hardly overlap, and a few samples carry all the weight:
    then $(\sum w)^2 / \sum w^2$ is far below the number of samples.

    Args:
        scores: Probabilities of target for the source samples, `(n,)` or `(n, 1)`, below 1; or logits.
        target_share: $\pi$ in (0, 1).
        from_logits: Whether `scores` are logits.

    Returns:
        Weights `(n,)` in float64, about 1 on average.

    Raises:
        ValueError: If an argument is out of range, or a sample would have an infinite weight.

    Cost: one pass over the scores.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, x_target = np.random.normal(size=(300, 2)), 0.5 + np.random.normal(size=(200, 2))
    classifier = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    classifier.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    classifier.fit(np.concatenate([x, x_target]), np.repeat([0, 1], [300, 200]), verbose=0)
    scores = classifier.predict(x, verbose=0)
    weights = kr.analysis.covariate_shift_weights(scores, target_share=0.4, from_logits=True)
    ```

    Reference: Steffen Bickel, Michael Brückner and Tobias Scheffer, *Discriminative Learning for Differing
    Training and Test Distributions*, ICML 2007.
    """
    share = check_number("target_share", target_share, above=0, below=1)
    given = np.asarray(scores, "float64")
    if given.ndim == 2 and given.shape[1] == 1:
        given = given[:, 0]
    if given.ndim != 1:
        raise ValueError(f"Expected scores (n,) or (n, 1). Received: scores.shape={given.shape}")
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        odds = np.exp(given) if from_logits else given / (1.0 - given)
    if not (np.isfinite(odds) & (odds >= 0)).all():
        expected = (
            "finite logits below 700" if from_logits else "probabilities at least 0 and below 1"
        )
        raise ValueError(
            f"Expected scores that are {expected}: a sample that is target for sure would weigh infinitely much. "
            f"Received: scores from {given.min()} to {given.max()}"
        )
    return odds * (1.0 - share) / share


class _Problem:
    """Samples in units of their bandwidths, and the linear equation of the weights."""

    def __init__(self, y_source, x_source, x_target, y_bandwidth=None, x_bandwidth=None):
        y, x, t = (_columns(part) for part in (y_source, x_source, x_target))
        if not len(y) or len(y) != len(x) or not len(t) or x.shape[1] != t.shape[1]:
            raise ValueError(
                "Expected labels (n,) or (n, outputs) and inputs (n, columns) of the source, and inputs "
                f"(m, columns) of the target. Received: shapes {y.shape}, {x.shape} and {t.shape}"
            )
        y_bandwidth = _bandwidth("y_bandwidth", y_bandwidth, y)
        x_bandwidth = _bandwidth("x_bandwidth", x_bandwidth, x)
        self.y, self.x, self.t = y / y_bandwidth, x / x_bandwidth, t / x_bandwidth

    def part(self, source, target):
        """The same of some samples."""
        other = object.__new__(_Problem)
        other.y, other.x, other.t = self.y[source], self.x[source], self.t[target]
        return other

    def equation(self):
        """`(A, B, η - 1)`."""
        kernel = _kernel(self.x, self.x)
        ratio = _kernel(self.x, self.t).mean(axis=1) / kernel.mean(axis=1)
        return _rows(kernel), _rows(_kernel(self.y, self.y)), ratio - 1.0

    def solve(self, regularization):
        """ρ for all source samples."""
        a, b, ratio = self.equation()
        return _solve(a, b, ratio, regularization)

    def choose(self, generator):
        """The regularization whose weights hold for samples that were left out."""
        if min(len(self.y), len(self.t)) < 10 * _FOLDS:
            raise ValueError(
                f'`regularization="auto"` needs at least {10 * _FOLDS} samples of source and target. '
                f"Received: {len(self.y)} and {len(self.t)}"
            )
        source, target = (generator.permutation(len(z)) % _FOLDS for z in (self.y, self.t))
        discrepancies = [
            _discrepancies(
                self.part(source != fold, target != fold), self.part(source == fold, target == fold)
            )
            for fold in range(_FOLDS)
        ]
        mean, best = np.mean(discrepancies, axis=0), np.argmin(np.mean(discrepancies, axis=0))
        error = np.std(discrepancies, axis=0, ddof=1)[best] / np.sqrt(_FOLDS)
        return float(_GRID[mean <= mean[best] + error].max())


def _discrepancies(known, left):
    """Of each regularization: how far the weighted source is from the target, on samples that were left out."""
    a, b, ratio = known.equation()
    smoother = _rows(_kernel(left.y, known.y))
    within, across = _kernel(left.x, left.x, 2.0), _kernel(left.x, left.t, 2.0).mean(axis=1)
    found = []
    for regularization in _GRID:
        residual = ratio - a @ _solve(a, b, ratio, regularization)
        weights = np.maximum(1.0 + smoother @ residual / regularization, 0.0)
        shares = weights / max(weights.sum(), 1e-12)
        found.append(shares @ within @ shares - 2.0 * shares @ across)  # But for a constant.
    return found


def _solve(a, b, ratio, regularization):
    return np.linalg.solve(regularization * np.eye(len(ratio)) + b @ a, b @ ratio)


def _columns(z):
    z = np.asarray(z, "float64")
    if z.ndim not in (1, 2) or not np.isfinite(z).all():
        raise ValueError(
            f"Expected finite numbers (n,) or (n, columns). Received: shape {z.shape}, "
            f"{np.size(z) - np.isfinite(z).sum()} of them not finite"
        )
    return z[:, None] if z.ndim == 1 else z


def _bandwidth(name, given, z):
    if given is not None:
        bandwidth = np.asarray(given, "float64")
        if bandwidth.shape not in ((), z.shape[1:]) or not (bandwidth > 0).all():
            raise ValueError(
                f"`{name}` must be a number above 0, or one per column. Received: {name}={given!r}"
            )
        return bandwidth
    bandwidth = z.std(axis=0) * len(z) ** (-1.0 / (4 + z.shape[1]))
    if not (bandwidth > 0).all():
        raise ValueError(f"A column of the source is constant: leave it out, or give `{name}`.")
    return bandwidth


def _kernel(a, b, bandwidth=1.0):
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2.0 * a @ b.T
    return np.exp(-0.5 / bandwidth**2 * np.maximum(squares, 0.0))


def _rows(kernel):
    """Rows that sum to 1; those that are far from everything are 0."""
    return kernel / np.maximum(kernel.sum(axis=1, keepdims=True), 1e-300)
