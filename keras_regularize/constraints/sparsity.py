"""Thresholding: weights that become exactly zero."""

from typing import Any

import keras
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.configuration import Configured
from keras_regularize.registration import export
from keras_regularize.utils.groups import check_axis, group_norms
from keras_regularize.validation import check_number


def soft_threshold(weight: Any, threshold: Any) -> Any:
    """`sign(w) max(|w| - t, 0)`."""
    return backend.soft_threshold(weight, threshold)


def group_soft_threshold(weight: Any, threshold: Any, axis: Any = -1) -> Any:
    """`w_f max(1 - t / |w_f|, 0)` for each group `f` of `axis`; zero stays zero, a group with NaN is all NaN."""
    norms = group_norms(weight, axis)
    gone = norms <= threshold
    factors = ops.where(gone, 0.0, 1.0 - threshold / ops.where(gone, 1.0, norms))
    return weight * ops.cast(factors, weight.dtype)


def hard_threshold(weight: Any, threshold: Any) -> Any:
    """`w` where `|w| > t`, else 0."""
    return ops.where(ops.abs(weight) <= threshold, ops.zeros_like(weight), weight)


@export
class SoftThreshold(Configured, keras.constraints.Constraint):
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

    Reference: Siddharth Krishna Kumar, *GD doesn't make the cut: Three ways that non-differentiability affects
    neural network training*, 2024, arXiv:2401.08426, on why a penalty alone makes no zeros; the map is that of
    Daubechies, Defrise and De Mol, *An iterative thresholding algorithm for linear inverse problems with a
    sparsity constraint*, Communications on Pure and Applied Mathematics 2004.
    """

    def __init__(self, threshold: float):
        self.threshold = check_number("threshold", threshold, minimum=0)

    def __call__(self, w: Any) -> Any:
        return soft_threshold(ops.convert_to_tensor(w), self.threshold)


@export
class GroupSoftThreshold(Configured, keras.constraints.Constraint):
    r"""Shortens every filter by a fixed amount per step, to exactly zero if it is shorter.

    $$w_f \leftarrow w_f \max\left(1 - t / \lVert w_f \rVert_2,\ 0\right),$$

    the proximal map of the group lasso $t \sum_f \lVert w_f \rVert_2$. Whole filters vanish, which makes a
    layer narrower; `SoftThreshold` zeroes single weights. A constraint does not know the learning rate, so the
    amount per step is fixed; to shorten by learning rate times factor use
    `kr.optimizers.Proximal(…, penalty="group_l1")`. A zero filter stays zero, a threshold of 0 changes nothing.

    Args:
        threshold: $t \ge 0$, in units of a filter's norm, subtracted from it at each step.
        axis: Axes that index the groups: `-1` (default) for one per filter of kernels `(…, in, out)`,
            `(-2, -1)` for one per spatial kernel, `None` for the whole tensor.

    Input and output: a weight of any shape.

    Raises:
        ValueError: If an argument is out of range, or `axis` does not name axes of the weight.

    Cost: two elementwise passes over the weight.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    layer = keras.layers.Conv2D(
        16, 3, kernel_constraint=kr.constraints.GroupSoftThreshold(1e-3)
    )
    ```

    Reference: Ming Yuan and Yi Lin, *Model selection and estimation in regression with grouped variables*,
    Journal of the Royal Statistical Society B 2006; on why a penalty alone makes no zeros, Siddharth Krishna
    Kumar, *GD doesn't make the cut: Three ways that non-differentiability affects neural network training*,
    2024, arXiv:2401.08426.
    """

    def __init__(self, threshold: float, axis: int | tuple[int, ...] | None = -1):
        self.threshold = check_number("threshold", threshold, minimum=0)
        self.axis = check_axis(axis)

    def __call__(self, w: Any) -> Any:
        return group_soft_threshold(ops.convert_to_tensor(w), self.threshold, self.axis)


@export
class HardThreshold(Configured, keras.constraints.Constraint):
    r"""Sets small weights to zero and leaves the others as they are: pruning by size.

    $$w \leftarrow \begin{cases} w & |w| > t \\ 0 & \text{else} \end{cases}$$

    the proximal map of $\frac{t^2}{2} \lVert w \rVert_0$. Unlike `SoftThreshold` it does not shrink what it keeps.
    Applied after every step (iterative hard thresholding) a zero comes back only by a single step larger than
    the threshold: attach it late in training, or apply it once.

    Args:
        threshold: $t \ge 0$, in units of the weight; 0 changes nothing.

    Input and output: a weight of any shape.

    Raises:
        ValueError: If `threshold` is not a non-negative number.

    Cost: one elementwise pass over the weight.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(2)])
    kr.constraints.attach(model, kr.constraints.HardThreshold(0.01))
    kr.constraints.HardThreshold(0.5)(keras.ops.convert_to_tensor([0.2, -1.5]))  # [0, -1.5]
    ```

    Reference: Thomas Blumensath and Mike E. Davies, *Iterative Thresholding for Sparse Approximations*,
    Journal of Fourier Analysis and Applications 2008.
    """

    def __init__(self, threshold: float):
        self.threshold = check_number("threshold", threshold, minimum=0)

    def __call__(self, w: Any) -> Any:
        return hard_threshold(ops.convert_to_tensor(w), self.threshold)
