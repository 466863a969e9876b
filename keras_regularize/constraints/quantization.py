"""Projections onto weights of two or three values."""

from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.numerics import cumsum, upcast
from keras_regularize.registration import export
from keras_regularize.utils.groups import check_axis, group_sums, member_axes


@export
class Binary(Configured, keras.constraints.Constraint):
    r"""Replaces the weights of every filter by the nearest $\pm a$: its signs and its mean size.

    $$w_{fi} \leftarrow a_f \operatorname{sign}(w_{fi}),\qquad a_f = \frac1n \sum_i |w_{fi}|,$$

    the closest such weights in the least-squares sense, with $\operatorname{sign}(0) = 1$ (the authors' code
    leaves zeros). Meant to be applied once to a network trained with
    `kr.regularizers.BinaryCauchySchwarz`; as a constraint during training it undoes small steps, since signs
    change only if a step outweighs $a_f$.

    Args:
        axis: Axes that index the groups: `-1` (default) for one per filter of kernels `(…, in, out)`,
            `(-2, -1)` for one per spatial kernel, `None` for the whole tensor.

    Input and output: a weight of any shape.

    Raises:
        ValueError: If `axis` is no axes, or does not name axes of the weight.

    Cost: two elementwise passes over the weight.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    layer.kernel.assign(kr.constraints.Binary()(layer.kernel))
    ```

    Reference: Sueda Taner, Ziyi Wang and Christoph Studer, *Cauchy-Schwarz Regularizers*, ICLR 2025,
    arXiv:2503.01639.
    """

    def __init__(self, axis: int | tuple[int, ...] | None = -1):
        self.axis = check_axis(axis)

    def __call__(self, w: Any) -> Any:
        w = ops.convert_to_tensor(w)
        wide = upcast(w)
        counts = group_sums(ops.ones_like(wide), self.axis)
        scale = group_sums(ops.abs(wide), self.axis) / counts
        return ops.cast(ops.where(wide >= 0, scale, -scale), w.dtype)


@export
class Ternary(Configured, keras.constraints.Constraint):
    r"""Replaces the weights of every filter by the nearest among $-a, 0, a$, with the best $a$ and zeros.

    With the sizes $|w|_{(1)} \ge |w|_{(2)} \ge \dots$ of a filter in falling order and their sums $c_k$, the
    least-squares projection keeps the $k^\ast = \arg\max_k c_k^2 / k$ largest weights:

    $$w_{fi} \leftarrow \begin{cases} a_f \operatorname{sign}(w_{fi}) & |w_{fi}| \ge |w_f|_{(k^\ast)} \\
    0 & \text{else}\end{cases},\qquad a_f = c_{k^\ast} / k^\ast.$$

    It is exact, found by sorting, with no threshold to choose. Meant to be applied once to a network trained
    with `kr.regularizers.TernaryCauchySchwarz`.

    Args:
        axis: Axes that index the groups: `-1` (default) for one per filter of kernels `(…, in, out)`,
            `(-2, -1)` for one per spatial kernel, `None` for the whole tensor.

    Input and output: a weight of any shape.

    Raises:
        ValueError: If `axis` is no axes, or does not name axes of the weight.

    Cost: a sort of every group.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    layer.kernel.assign(kr.constraints.Ternary()(layer.kernel))
    ```

    Reference: Sueda Taner, Ziyi Wang and Christoph Studer, *Cauchy-Schwarz Regularizers*, ICLR 2025,
    arXiv:2503.01639.
    """

    def __init__(self, axis: int | tuple[int, ...] | None = -1):
        self.axis = check_axis(axis)

    def __call__(self, w: Any) -> Any:
        w = ops.convert_to_tensor(w)
        members = member_axes(w.shape, self.axis)
        groups = tuple(a for a in range(len(w.shape)) if a not in members)
        wide = upcast(w)
        sizes = ops.abs(wide)
        kept = ops.transpose(sizes, (*groups, *members))
        kept = ops.reshape(kept, (*(w.shape[a] for a in groups), -1))  # One group per row.
        falling = ops.flip(ops.sort(kept, axis=-1), axis=-1)
        counts = ops.arange(1, falling.shape[-1] + 1, dtype=wide.dtype)
        means = cumsum(falling) / counts
        best = ops.argmax(means * means * counts, axis=-1, keepdims=True)
        shape = tuple(1 if a in members else w.shape[a] for a in range(len(w.shape)))
        scale = ops.reshape(ops.take_along_axis(means, best, axis=-1), shape)
        threshold = ops.reshape(ops.take_along_axis(falling, best, axis=-1), shape)
        # Where NaN stands in the order depends on the backend; a group that has one becomes NaN.
        total = group_sums(sizes, self.axis)
        undefined = total != total
        scale, threshold = ops.where(undefined, total, scale), ops.where(undefined, 0.0, threshold)
        return ops.cast(ops.where(sizes < threshold, 0.0, scale * ops.sign(wide)), w.dtype)
