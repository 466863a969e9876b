"""How much a contrastive loss could be fitted to noise."""

import math
from typing import Any, NamedTuple

import numpy as np

from keras_regularize.validation import check_integer, check_number


class ContrastiveRademacher(NamedTuple):
    """What `contrastive_rademacher` measures.

    Attributes:
        estimate: Mean over draws of signs.
        bound: An upper bound of its expectation.
    """

    estimate: float
    bound: float


def contrastive_rademacher(
    anchors: Any,
    positives: Any,
    negatives: Any,
    radius: float,
    trials: int = 20,
    seed: int | None = None,
) -> ContrastiveRademacher:
    r"""Rademacher complexity of linear features in contrastive learning: how well they could fit noise.

    Features $f(x) = U x$ with $\|U\|_F \le \Lambda$ compare an anchor with a positive and a negative example by
    $f(x)^\top (f(x^+) - f(x^-))$. With random signs $\epsilon_j$ for $n$ such triples,

    $$E_\epsilon \sup_U \frac1n \sum_j \epsilon_j\, f(x_j)^\top \big(f(x_j^+) - f(x_j^-)\big)
      = \frac{\Lambda^2}{n}\, E_\epsilon \Big[\lambda_{\max}\big(\operatorname{sym} \sum_j \epsilon_j
      (x_j^+ - x_j^-)\, x_j^\top\big)\Big]_+
      \le \frac{\Lambda^2}{n} \sqrt{\sum_j \|x_j\|^2\, \|x_j^+ - x_j^-\|^2}.$$

    The gap of a contrastive loss between training and test data is bounded by it, up to factors that grow with the
    logarithm of the number of negatives alone: the losses of `kr.losses` over many negatives are Lipschitz in the
    largest change of a comparison.

    Args:
        anchors: $x$, `(n, features)`.
        positives: $x^+$, of the same shape.
        negatives: $x^-$, of the same shape, or several each, `(n, k, features)`: then there are $n k$ triples.
        radius: $\Lambda \ge 0$.
        trials: Number of draws of signs, at least 1.
        seed: Integer seed of the draws, or None.

    Returns:
        A named tuple of floats, `estimate` and `bound`.

    Raises:
        ValueError: If an argument is out of range, or the shapes do not fit.

    Cost: per draw a product of `(features, n)` and `(n, features)` and an eigendecomposition, in float64.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    anchors, positives, negatives = np.random.normal(size=(3, 100, 8))
    print(kr.analysis.contrastive_rademacher(anchors, positives, negatives, radius=1.0).bound)
    ```

    Reference: Yunwen Lei, Tianbao Yang, Yiming Ying and Ding-Xuan Zhou, *Generalization Analysis for Contrastive
    Representation Learning*, ICML 2023, arXiv:2302.12383. The closed forms for linear features are this package's
    own.
    """
    check_number("radius", radius, minimum=0)
    check_integer("trials", trials, minimum=1)
    x, plus, minus = (np.asarray(a, "float64") for a in (anchors, positives, negatives))
    if minus.ndim == 2:
        minus = minus[:, None]
    size, width = x.shape if x.ndim == 2 else (0, 0)
    if not size or plus.shape != x.shape or minus.shape != (size, minus.shape[1], width):
        raise ValueError(
            "Expected anchors and positives (n, features), and negatives (n, features) or (n, k, features). "
            f"Received shapes: {np.shape(anchors)}, {np.shape(positives)}, {np.shape(negatives)}"
        )
    differences = plus[:, None] - minus
    count = size * minus.shape[1]
    random, values = np.random.default_rng(seed), []
    for _ in range(trials):
        signs = random.choice([-1.0, 1.0], size=differences.shape[:2])
        product = np.einsum("jk,jkd,je->de", signs, differences, x, optimize=True)
        values.append(max(0.0, np.linalg.eigvalsh(0.5 * (product + product.T))[-1]))
    squares = np.sum(np.sum(x**2, axis=1)[:, None] * np.sum(differences**2, axis=2))
    scale = radius**2 / count
    return ContrastiveRademacher(scale * float(np.mean(values)), scale * math.sqrt(squares))
