"""The two sides of contrastive learning, measured."""

import dataclasses
from typing import Any

import numpy as np

from keras_regularize.analysis.representation._features import as_array, unit_rows
from keras_regularize.validation import check_number

ROWS = 1024


@dataclasses.dataclass(frozen=True, eq=False)
class AlignmentUniformity:
    """What `alignment_uniformity` measures.

    Attributes:
        alignment: How far views of a sample are from each other; 0 is best.
        uniformity: How evenly features cover the sphere, at most 0; low is best.
    """

    alignment: float
    uniformity: float


def alignment_uniformity(views: Any, alpha: float = 2.0, t: float = 2.0) -> AlignmentUniformity:
    r"""How near views of a sample are, and how evenly all features are spread.

    Of features $a_i$ and $b_i$ of two views of $n$ samples, divided by their length,

    $$\frac1n \sum_i \|a_i - b_i\|^\alpha \qquad\text{and}\qquad
      \log \operatorname{mean}_{i < j} e^{-t \|z_i - z_j\|^2},$$

    the latter averaged over the views $z = a$ and $z = b$. Features that collapsed have 0 and 0. Encoders with
    both numbers low have better linear probes; of two runs, compare both at once.

    Args:
        views: Features `(n, 2, dim)` of at least two samples, such as a `models.MultiView` gives out when it is
            called.
        alpha: $\alpha$, above 0.
        t: $t$, above 0.

    Returns:
        A frozen dataclass with `alignment` and `uniformity`.

    Raises:
        ValueError: If an argument is out of range, or the shape does not fit.

    Cost: a product of the features with themselves, in parts.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.analysis.alignment_uniformity(np.random.normal(size=(50, 2, 8)))
    ```

    Reference: Tongzhou Wang and Phillip Isola, *Understanding Contrastive Representation Learning through
    Alignment and Uniformity on the Hypersphere*, ICML 2020, arXiv:2005.10242.
    """
    check_number("alpha", alpha, above=0)
    check_number("t", t, above=0)
    z = as_array(views).astype("float64")
    if z.ndim != 3 or z.shape[1] != 2 or len(z) < 2:
        raise ValueError(
            f"Expected features (n, 2, dim) of at least two samples. Received: shape {z.shape}"
        )
    z = unit_rows(z)
    distances = np.linalg.norm(z[:, 0] - z[:, 1], axis=-1)
    return AlignmentUniformity(
        alignment=float(np.mean(distances**alpha)),
        uniformity=float(np.mean([_uniformity(z[:, view], t) for view in range(2)])),
    )


def _uniformity(z, t):
    total = 0.0
    for start in range(0, len(z), ROWS):
        squares = np.maximum(2.0 - 2.0 * z[start : start + ROWS] @ z.T, 0.0)
        total += np.exp(-t * squares).sum()
    pairs = len(z) * (len(z) - 1)
    # Each feature is at distance 0 from itself, a zero vector at 2 - 0.
    itself = np.exp(-t * np.maximum(2.0 - 2.0 * np.sum(z * z, axis=1), 0.0)).sum()
    return np.log(max(total - itself, 1e-300) / pairs)
