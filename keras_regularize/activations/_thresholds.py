"""Proximal maps of sparse signals as activations."""

import numbers
from typing import Any

import numpy as np
from keras import ops

from keras_regularize.constraints import sparsity
from keras_regularize.numerics import as_float
from keras_regularize.registration import export


@export
def soft_threshold(x: Any, threshold: Any = 0.5) -> Any:
    r"""Shrinks every entry towards 0 by a threshold, to exactly 0 if it is smaller.

    $$\operatorname{sign}(x) \max(|x| - t,\, 0) = \arg\min_z\, \tfrac12 (z - x)^2 + t\, |z|.$$

    Unlike `keras.activations.soft_shrink` it takes thresholds that are tensors, one per entry or learned, with
    their gradient $-\operatorname{sign}(x)$ where $|x| > t$.

    Args:
        x: A float tensor of any shape.
        threshold: $t \ge 0$, a number or a tensor that broadcasts.

    Returns:
        A tensor of the shape and dtype of `x`.

    Raises:
        ValueError: If `threshold` is a negative number, or an array with one.

    Cost: two elementwise passes.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.activations.soft_threshold(np.array([0.2, -1.5], "float32"), 0.5)  # 0, -1
    ```

    Reference: Ingrid Daubechies, Michel Defrise and Christine De Mol, *An iterative thresholding algorithm for
    linear inverse problems with a sparsity constraint*, Communications on Pure and Applied Mathematics 2004.
    """
    x = as_float(x)
    return sparsity.soft_threshold(x, _threshold(threshold, x))


@export
def hard_threshold(x: Any, threshold: Any = 0.5) -> Any:
    r"""Sets entries up to a threshold to 0 and leaves the others as they are.

    $$x \text{ if } |x| > t \text{ else } 0,$$

    a solution of $\min_z \tfrac12 (z - x)^2 + \tfrac{t^2}{2} [z \ne 0]$; ties are 0. The gradient is that of what
    is kept: the threshold has none.

    Args:
        x: A float tensor of any shape.
        threshold: $t \ge 0$, a number or a tensor that broadcasts.

    Returns:
        A tensor of the shape and dtype of `x`.

    Raises:
        ValueError: If `threshold` is a negative number, or an array with one.

    Cost: two elementwise passes.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.activations.hard_threshold(np.array([0.2, -1.5], "float32"), 0.5)  # 0, -1.5
    ```

    Reference: Thomas Blumensath and Mike E. Davies, *Iterative Thresholding for Sparse Approximations*, Journal of
    Fourier Analysis and Applications 2008.
    """
    x = as_float(x)
    return sparsity.hard_threshold(x, _threshold(threshold, x))


def _threshold(threshold, x):
    given = isinstance(threshold, (numbers.Real, np.ndarray))  # What is learned may be negative.
    if given and not np.all(np.asarray(threshold) >= 0):
        raise ValueError(f"`threshold` must be at least 0. Received: threshold={threshold!r}")
    return ops.cast(ops.convert_to_tensor(threshold), x.dtype)
