"""Thresholding: weights that become exactly zero."""

from typing import Any

import keras
from keras import ops

from keras_regularize._export import export
from keras_regularize._validation import check_number
from keras_regularize.utils.groups import group_norms


def soft_threshold(weight: Any, threshold: Any) -> Any:
    """`sign(w) max(|w| - t, 0)`."""
    return weight - ops.clip(weight, -threshold, threshold)


def group_soft_threshold(weight: Any, threshold: Any, axis: Any = -1) -> Any:
    """`w_f max(1 - t / |w_f|, 0)` for each group `f` of `axis`; a zero group stays zero."""
    norms = group_norms(weight, axis)
    kept = norms > threshold
    factors = ops.where(kept, 1.0 - threshold / ops.where(kept, norms, 1.0), 0.0)
    return weight * ops.cast(factors, weight.dtype)


def hard_threshold(weight: Any, threshold: Any) -> Any:
    """`w` where `|w| > t`, else 0."""
    return ops.where(ops.abs(weight) > threshold, weight, ops.zeros_like(weight))


@export
class SoftThreshold(keras.constraints.Constraint):
    r"""Shrinks every weight towards zero by a fixed amount per step, to exactly zero if it is smaller.

    $$w \leftarrow \operatorname{sign}(w) \max(|w| - t,\ 0),$$

    the proximal map of $t \lVert w \rVert_1$. Applied after each optimizer step it gives exact zeros, which
    an L1 penalty does not: its subgradient steps over zero and back. A constraint does not know the
    learning rate, so the amount per step is fixed; to shrink by learning rate times factor, which minimizes
    the L1-penalized loss, use `kr.optimizers.Proximal`. A threshold of 0 leaves the weights as they are.

    Args:
        threshold: $t \ge 0$, in units of the weight, subtracted from $|w|$ at each step.

    Input and output: a weight of any shape.

    Raises:
        ValueError: If `threshold` is not a non-negative number.

    Cost: one elementwise pass over the weight.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    layer = keras.layers.Dense(8, kernel_constraint=kr.constraints.SoftThreshold(1e-4))
    kr.constraints.SoftThreshold(0.5)(keras.ops.convert_to_tensor([0.2, -1.5]))  # [0, -1]
    ```

    Reference: Siddharth Krishna Kumar, *GD doesn't make the cut: Three ways that non-differentiability
    affects neural network training*, 2024, arXiv:2401.08426, on why a penalty alone makes no zeros; the map
    is that of Daubechies, Defrise and De Mol, *An iterative thresholding algorithm for linear inverse
    problems with a sparsity constraint*, 2004, Communications on Pure and Applied Mathematics.
    """

    def __init__(self, threshold: float):
        check_number("threshold", threshold, minimum=0)
        self.threshold = float(threshold)

    def __call__(self, w: Any) -> Any:
        return soft_threshold(ops.convert_to_tensor(w), self.threshold)

    def get_config(self) -> dict[str, Any]:
        return {"threshold": self.threshold}
