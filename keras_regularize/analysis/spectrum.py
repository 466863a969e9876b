"""Singular values of kernels."""

from typing import Any

import keras
import numpy as np
from keras import ops


def effective_rank(kernel: Any) -> float:
    r"""How many directions a kernel uses: the exponential of the entropy of its singular values.

    $$\exp\Big(-\sum_i p_i \log p_i\Big),\qquad p_i = \sigma_i \big/ \sum_j \sigma_j$$

    of the kernel as a matrix `(fan_in, filters)`. It lies between 1 (one direction) and
    `min(fan_in, filters)` (all singular values alike, as orthogonality regularizers make them); a zero kernel
    has 0. A rank that falls over training tasks is a sign that a network stops learning; the same number of
    a layer's activations, `(samples, features)`, measures collapsed features.

    Args:
        kernel: An array, tensor or variable `(…, in, out)` with the filters on the last axis.

    Returns:
        A float.

    Raises:
        ValueError: If the kernel is a scalar or empty.

    Cost: a singular value decomposition.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.analysis.effective_rank(np.eye(5))  # 5.0
    ```

    Reference: Olivier Roy and Martin Vetterli, *The effective rank: A measure of effective dimensionality*,
    EUSIPCO 2007.
    """
    values = _singular_values(kernel)
    total = values.sum()
    if total == 0 or total != total:
        return float(total)
    shares = values[values > 0] / total
    shares = shares[shares > 0]
    return float(np.exp(-np.sum(shares * np.log(shares))))


def spectral_norms(model: keras.Model) -> dict[str, float]:
    r"""The largest singular value of every kernel of a model.

    Of each weight with at least two axes, as the matrix `(fan_in, filters)` that `kr.regularizers.Spectral`
    regularizes. The product over the layers of a chain bounds its Lipschitz constant where layers are dense;
    for a convolution the matrix is that of one patch.

    Args:
        model: A built Keras model.

    Returns:
        A dictionary from the `path` of a variable to a float, in the order of `model.weights`.

    Raises:
        ValueError: If the model is not built.

    Cost: a singular value decomposition per kernel.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(2)])
    norms = kr.analysis.spectral_norms(model)  # two entries
    ```
    """
    if not model.built:
        raise ValueError(
            f"`spectral_norms` needs a built model, whose weights exist. Received: {model.name!r}, which "
            "is not built; call it on data or give it an `Input` first."
        )
    return {
        variable.path: float(_singular_values(variable).max())
        for variable in model.weights
        if len(variable.shape) >= 2 and 0 not in variable.shape
    }


def _singular_values(kernel):
    if not isinstance(kernel, np.ndarray):
        kernel = ops.convert_to_numpy(kernel)
    if kernel.ndim == 0 or kernel.size == 0:
        raise ValueError(
            f"`kernel` must have entries and an axis of filters. Received: shape {kernel.shape}"
        )
    matrix = np.asarray(kernel, "float64").reshape((-1, kernel.shape[-1]))
    if not np.isfinite(matrix).all():  # NumPy raises on some machines and answers on others.
        return np.full(min(matrix.shape), np.nan)
    return np.linalg.svd(matrix, compute_uv=False)
