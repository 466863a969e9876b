"""The objective of sparse recovery, which needs no signals to learn from."""

from typing import Any

import numpy as np
from keras import ops

from keras_regularize.losses.loss import Loss
from keras_regularize.numerics import safe_abs, upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_number


@export
class SparseRecoveryObjective(Loss):
    r"""How badly a sparse signal explains its measurements, and how many entries it takes: trains without signals.

    $$\tfrac12 \|y - A \hat x\|^2 + \lambda \|\hat x\|_1, \qquad\text{or with } \|\hat x\|_0, \text{ the number of
      entries that are not 0}.$$

    The labels are the measurements. The count has no gradient: by `"l0"` a network such as
    `kr.layers.UnfoldedIHT`, whose own thresholds keep its output sparse, learns from the first term and reports
    both.

    Args:
        matrix: $A$, an array `(m, n)`.
        factor: $\lambda \ge 0$.
        penalty: `"l1"` or `"l0"`.
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Measurements $y$ `(batch, m)`.
        y_pred: Signals $\hat x$ `(batch, n)`.

    Returns:
        With `reduction="none"` one value per sample `(batch,)`, else a scalar.

    Raises:
        ValueError: If an argument is out of range or the shapes do not fit.

    Cost: one product with the matrix.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(10, 20))
    y = (rng.normal(size=(64, 20)) * (rng.uniform(size=(64, 20)) < 0.1)) @ matrix.T
    net = keras.Sequential([kr.layers.UnfoldedISTA(matrix, 5, 0.1)])
    net.compile("adam", kr.losses.SparseRecoveryObjective(matrix, 0.1))
    net.fit(y, y, verbose=0)
    ```

    Reference: Koshi Nagahisa, Ryo Hayakawa and Youji Iiguni, *Comparison between Supervised and Unsupervised
    Learning in Deep Unfolded Sparse Signal Recovery*, 2025, arXiv:2509.01331.
    """

    def __init__(
        self,
        matrix: Any,
        factor: float = 0.1,
        penalty: str = "l1",
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "sparse_recovery_objective",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.matrix = check_matrix(matrix)
        self._rows = np.asarray(self.matrix)  # Lists take long to convert.
        self.factor = check_number("factor", factor, minimum=0)
        self.penalty = check_choice("penalty", penalty, ("l1", "l0"))

    def call(self, y_true: Any, y_pred: Any) -> Any:
        x = upcast(y_pred)
        y = ops.cast(ops.convert_to_tensor(y_true), x.dtype)
        matrix = ops.cast(ops.convert_to_tensor(self._rows), x.dtype)
        m, n = matrix.shape
        if len(y.shape) != 2 or len(x.shape) != 2 or (y.shape[-1], x.shape[-1]) != (m, n):
            raise ValueError(
                f"Expected measurements (batch, {m}) and signals (batch, {n}). "
                f"Received: y_true.shape={tuple(y.shape)}, y_pred.shape={tuple(x.shape)}"
            )
        errors = x @ ops.transpose(matrix) - y
        sizes = safe_abs(x) if self.penalty == "l1" else ops.cast(x != 0, x.dtype)
        return 0.5 * ops.sum(errors * errors, axis=-1) + self.factor * ops.sum(sizes, axis=-1)


def check_matrix(matrix: Any) -> list[list[float]]:
    """Nested lists of numbers, as they are saved."""
    rows = np.asarray(matrix if isinstance(matrix, list) else ops.convert_to_numpy(matrix), float)
    if rows.ndim != 2 or not rows.size or not np.isfinite(rows).all():
        raise ValueError(
            "`matrix` must be of shape (m, n), with finite entries. "
            f"Received: shape={rows.shape}, {np.sum(~np.isfinite(rows))} entries that are not finite"
        )
    return rows.tolist()
