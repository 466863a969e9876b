"""How many dimensions the features around a sample fill."""

from typing import Any

import numpy as np

from keras_regularize.validation import check_choice, check_integer

_PAIRS_AT_ONCE = 1 << 22


def local_intrinsic_dimension(
    features: Any, reference: Any = None, k: int = 32, estimator: str = "mle"
) -> np.ndarray:
    r"""The dimension of the set that features lie on, seen from each sample: how fast a neighbourhood fills.

    From the distances $a_1 \le \dots \le a_k$ of a sample to its nearest neighbours,

    $$\text{mle:}\; \frac{-k}{\sum_{j<k} \log(a_j / a_k + 10^{-4})}, \qquad
      \text{moments:}\; \frac{m}{a_k - m},\; m = \frac{1}{k - 1} \sum_{j<k} a_j.$$

    Features may fill all directions and still lie on a curve: their covariance has full rank then
    (`kr.analysis.effective_rank`), and this is 1. Report the geometric mean over the samples, as
    `kr.regularizers.LDReg` raises it. It is an estimate, too low in many dimensions: compare models by it, on the
    same number of samples.

    Args:
        features: Features `(n, …)`, flattened to `(n, dim)`.
        reference: Other features `(m, …)` among which to look for neighbours; `None` for those of the other
            samples.
        k: Number of neighbours, at least 2.
        estimator: `"mle"` or `"moments"`.

    Returns:
        One dimension per sample, `(n,)`: 0 where all `k` neighbours are the sample itself again, infinite where
        all are equally far.

    Raises:
        ValueError: If there are fewer than `k` others to be neighbours, sizes differ, or an argument is out of
            range.

    Cost: $n m \cdot \mathrm{dim}$ operations in blocks, in double precision.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    angle = np.random.default_rng(0).uniform(0, 6.28, 1000)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    np.exp(np.log(kr.analysis.local_intrinsic_dimension(circle)).mean())  # about 1
    ```

    Reference: Hanxun Huang, Ricardo J. G. B. Campello, Sarah Monazam Erfani, Xingjun Ma, Michael E. Houle and
    James Bailey, *LDReg: Local Dimensionality Regularized Self-Supervised Learning*, ICLR 2024, arXiv:2401.10474.
    """
    k = check_integer("k", k, minimum=2)
    check_choice("estimator", estimator, ("mle", "moments"))
    x = _rows("features", features)
    own = reference is None
    others = x if own else _rows("reference", reference)
    if len(others) - own < k or x.shape[1] != others.shape[1]:
        raise ValueError(
            f"Expected at least k={k} other samples of the size of `features`. "
            f"Received: {x.shape} features, and {others.shape} to be neighbours"
        )
    center = others.mean(axis=0)
    x, others = x - center, others - center
    squares = np.square(others).sum(axis=1)
    size = max(1, _PAIRS_AT_ONCE // len(others))
    found = []
    for start in range(0, len(x), size):
        rows = x[start : start + size]
        pairs = squares - 2.0 * rows @ others.T
        if own:
            pairs[np.arange(len(rows)), start + np.arange(len(rows))] = np.inf
        nearest = np.argpartition(pairs, k - 1, axis=1)[:, :k]
        distances = np.stack(
            [np.linalg.norm(rows - others[column], axis=1) for column in nearest.T], axis=1
        )
        found.append(_dimensions(np.sort(distances, axis=1), estimator))
    return np.concatenate(found) if found else np.zeros(0)


def _dimensions(distances, estimator):
    inner, last = distances[:, :-1], distances[:, -1:]
    with np.errstate(divide="ignore"):
        if estimator == "moments":
            numerator, denominator = inner.mean(axis=1), last[:, 0] - inner.mean(axis=1)
        else:
            shares = inner / np.where(last > 0, last, 1.0)
            numerator = np.full(len(distances), float(distances.shape[1]))
            denominator = np.maximum(-np.log(shares + 1e-4).sum(axis=1), 0.0)
        return np.where(last[:, 0] > 0, numerator / np.where(last[:, 0] > 0, denominator, 1.0), 0.0)


def _rows(name, x):
    x = np.asarray(x, "float64")
    if x.ndim < 2:
        raise ValueError(f"`{name}` must be `(n, …)`. Received: shape={x.shape}")
    return x.reshape(len(x), int(np.prod(x.shape[1:])))
