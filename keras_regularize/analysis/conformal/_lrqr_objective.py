"""Quantile regression that is regularized by the likelihood ratio."""

from typing import Any

import keras
from keras import ops

from keras_regularize.numerics import maximum, mean, upcast
from keras_regularize.validation import check_number, compatible


def lrqr_objective(
    coefficients: Any,
    scale: Any,
    source_features: Any,
    source_scores: Any,
    unlabeled_features: Any,
    target_features: Any,
    alpha: float = 0.1,
    regularization: float = 1.0,
) -> Any:
    r"""The objective of likelihood-ratio regularized quantile regression, a differentiable scalar.

    For a threshold $h(x) = \langle c, \phi(x) \rangle$, a scale $\beta$ and scores $s$,

    $$\operatorname*{mean}_\text{source} \rho\big(s_i - h(x_i)\big)
      + \lambda \operatorname*{mean}_\text{unlabelled} \big(\beta h(x_j)\big)^2
      - 2 \lambda \operatorname*{mean}_\text{target} \beta h(x_k), \qquad
      \rho(u) = \max\big((1 - \alpha) u, -\alpha u\big).$$

    The last two terms are $\lambda\,E_s[(\beta h - r)^2]$ but for a constant, for the ratio $r = p_t / p_s$ of the
    densities of target and source: since $E_s[r h] = E_t[h]$ it need not be known. `LikelihoodRatioQuantile`
    minimizes it.

    Args:
        coefficients: $c$ `(d,)`.
        scale: $\beta$, a scalar.
        source_features: $\phi(x_i)$ of labelled source samples `(n, d)`.
        source_scores: Their scores `(n,)`.
        unlabeled_features: $\phi(x_j)$ of further source samples `(m, d)`.
        target_features: $\phi(x_k)$ of target samples `(k, d)`.
        alpha: $\alpha$ in (0, 1).
        regularization: $\lambda$, at least 0.

    Returns:
        The objective, a scalar tensor in at least float32.

    Raises:
        ValueError: If an argument is out of range, or shapes do not fit.

    Cost: a product of each matrix with a vector.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    x, unlabeled, target = np.random.normal(size=(3, 20, 4))
    value = kr.analysis.lrqr_objective(np.ones(4), 1.0, x, np.abs(x[:, 0]), unlabeled, target)
    ```

    Reference: Sunay Joshi, Shayan Kiyani, George Pappas, Edgar Dobriban and Hamed Hassani, *Conformal Inference
    under High-Dimensional Covariate Shifts via Likelihood-Ratio Regularization*, 2025, arXiv:2502.13030.
    """
    alpha = check_number("alpha", alpha, above=0, below=1)
    regularization = check_number("regularization", regularization, minimum=0)
    parts = [
        upcast(part)
        for part in (
            coefficients,
            scale,
            source_scores,
            source_features,
            unlabeled_features,
            target_features,
        )
    ]
    dtype = keras.backend.result_type(*(part.dtype for part in parts))
    c, scale, scores, source, unlabeled, target = (ops.cast(part, dtype) for part in parts)
    shapes = [tuple(part.shape) for part in (source, unlabeled, target)]
    if (
        len(c.shape) != 1
        or len(scale.shape)
        or not all(compatible(shape, (None, c.shape[0])) for shape in shapes)
        or not compatible(tuple(scores.shape), shapes[0][:1])
    ):
        raise ValueError(
            "Expected coefficients (d,), a scalar scale, features (n, d), (m, d) and (k, d), and scores (n,). "
            f"Received: shapes {tuple(c.shape)}, {tuple(scale.shape)}, {shapes} and {tuple(scores.shape)}"
        )
    error = scores - ops.matmul(source, c)
    pinball = mean(maximum((1.0 - alpha) * error, -alpha * error))
    ratio, target_ratio = scale * ops.matmul(unlabeled, c), scale * ops.matmul(target, c)
    return pinball + regularization * (mean(ops.square(ratio)) - 2.0 * mean(target_ratio))
