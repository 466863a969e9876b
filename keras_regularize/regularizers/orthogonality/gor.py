"""Group orthogonalization: orthogonality within small groups of filters."""

from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.registration import export
from keras_regularize.regularizers._gram import minus_identity, smaller_gram
from keras_regularize.utils.groups import filter_matrix
from keras_regularize.validation import check_choice, check_integer, check_number


@export
class GOR(Configured, keras.regularizers.Regularizer):
    r"""Makes filters orthonormal within groups, at a fraction of the cost of doing so for all of them.

    $$\lambda \sum_{s} \lVert G(A_s) - I \rVert_F^2$$

    over sets $A_s$ of filters, with the smaller Gram matrix $G$ of a set. The filters are divided into groups
    of consecutive ones, as `GroupNormalization` divides channels; with `mode="inter"` every group is a set,
    with `"intra"` the first filters of all groups are the first set, the second ones the next, and so on. One
    group is `SoftOrthogonality`. It also suits the small matrices of adapters (LoRA), to which the authors
    apply it.

    The number of groups is at most `num_groups` and such that a group has at least `min_group_size` filters.
    The authors' code fails if that does not divide the number of filters, or for fewer filters than a group
    needs; here the next smaller divisor is taken, and one group.

    Args:
        factor: $\lambda \ge 0$.
        num_groups: Largest number of groups; 32, the default of `GroupNormalization`, matches its groups.
        mode: `"inter"` or `"intra"`.
        min_group_size: Least number of filters of a group.

    Input: a kernel `(…, in, out)` with the filters on the last axis; a vector is one row. Output: a scalar
    in at least float32.

    Raises:
        ValueError: If an argument is out of range.

    Cost: two batched matrix products; with groups of size `s ≤ fan_in`, `2 · fan_in · filters · s`
    multiplications, `filters / s` times fewer than `SoftOrthogonality`.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    layer = keras.layers.Conv2D(64, 3, kernel_regularizer=kr.regularizers.GOR(0.01, num_groups=16))
    ```

    Reference: Yoav Kurtz, Noga Bar and Raja Giryes, *Group Orthogonalization Regularization For Vision Models
    Adaptation and Robustness*, BMVC 2023, arXiv:2306.10001.
    """

    def __init__(
        self,
        factor: float = 0.01,
        num_groups: int = 32,
        mode: str = "inter",
        min_group_size: int = 4,
    ):
        self.factor = check_number("factor", factor, minimum=0)
        self.num_groups = check_integer("num_groups", num_groups, minimum=1)
        self.mode = check_choice("mode", mode, ("inter", "intra"))
        self.min_group_size = check_integer("min_group_size", min_group_size, minimum=1)

    def __call__(self, x: Any) -> Any:
        matrix = filter_matrix(x)
        fan_in, count = matrix.shape
        groups = self._groups(count)
        sets = ops.reshape(ops.transpose(matrix), (groups, count // groups, fan_in))
        if self.mode == "intra":
            sets = ops.swapaxes(sets, 0, 1)
        return self.factor * ops.sum(ops.square(minus_identity(smaller_gram(sets))))

    def _groups(self, count):
        most = min(self.num_groups, max(1, count // self.min_group_size))
        return next(groups for groups in range(most, 0, -1) if count % groups == 0)
