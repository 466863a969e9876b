"""Iterative thresholding as a network, with learned step sizes."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.constraints.sparsity import hard_threshold, soft_threshold
from keras_regularize.losses.sparse_recovery_objective import check_matrix
from keras_regularize.numerics import upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


class _Unfolded(Configured, keras.layers.Layer):
    """Iterations of thresholding; a subclass has a `threshold_of` step sizes and a `shrink`."""

    train_threshold = False

    def __init__(
        self,
        matrix: Any = None,
        num_iterations: int = 10,
        factor: float = 0.1,
        step_size: float | None = None,
        share: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_iterations = check_integer("num_iterations", num_iterations, minimum=1)
        self.factor = check_number("factor", factor, minimum=0)
        self.step_size = check_number("step_size", step_size, above=0, optional=True)
        self.share = bool(share)
        self.matrix = None if matrix is None else check_matrix(matrix)
        self._fixed = np.asarray(self.matrix)  # Lists take long to convert.
        if self.matrix is None and self.step_size is None:
            raise ValueError(
                "Without a fixed `matrix` there must be a `step_size` to start from. "
                "Received: matrix=None, step_size=None"
            )
        #: How many of the iterations are made; `kr.callbacks.IncrementalUnfolding` raises it.
        self.active_iterations = self.num_iterations

    def build(self, input_shape: Any) -> None:
        if self.matrix is None:
            if len(input_shape) != 2 or not all(isinstance(s, (list, tuple)) for s in input_shape):
                raise ValueError(
                    "Without a fixed `matrix` the inputs are a list of measurements and matrices. "
                    f"Received: shape={input_shape}"
                )
            measured, (*_, rows, _) = input_shape
        else:
            measured, rows = input_shape, len(self.matrix)
        if measured[-1] is None or measured[-1] != rows:
            raise ValueError(
                "The matrix must have a row for each measurement. "
                f"Received: shape={tuple(measured)} for a matrix of {rows} rows"
            )
        start = self.step_size
        if start is None:
            norm, least = float(np.linalg.norm(self._fixed, 2)), float(np.finfo("float32").tiny)
            if not least < norm**2 < 1 / least:
                raise ValueError(
                    "Without a `step_size` to start from, `matrix` must have a norm whose square and its inverse "
                    f"are numbers of single precision above 0. Received: a norm of {norm}"
                )
            start = norm**-2
        shape = (1 if self.share else self.num_iterations,)
        self.step_sizes = self._add_sizes("step_sizes", shape, start)
        if self.train_threshold:
            self.thresholds = self._add_sizes("thresholds", shape, self.threshold_of(start))

    def _add_sizes(self, name, shape, start):
        return self.add_weight(
            shape=shape,
            initializer=keras.initializers.Constant(start),
            constraint=keras.constraints.NonNeg(),
            name=name,
        )

    def call(self, inputs: Any) -> Any:
        if self.matrix is None:
            y, matrix = map(upcast, inputs)
        else:
            y = upcast(inputs)
            matrix = ops.convert_to_tensor(self._fixed)
        matrix = ops.cast(matrix, y.dtype)
        alone = len(y.shape) == 1  # TensorFlow's product takes matrices only.
        y = y[None] if alone else y
        x = ops.zeros_like(self._back(y, matrix))
        sizes = ops.cast(self.step_sizes, y.dtype)
        thresholds = (
            ops.cast(self.thresholds, y.dtype) if self.train_threshold else self.threshold_of(sizes)
        )
        for k in range(min(self.active_iterations, self.num_iterations)):
            i = 0 if self.share else k
            error = self._forward(x, matrix) - y
            x = self.shrink(x - sizes[i] * self._back(error, matrix), thresholds[i])
        return ops.cast(x[0] if alone else x, self.compute_dtype)

    def _forward(self, x, matrix):
        if len(matrix.shape) == 2:
            return x @ ops.transpose(matrix)
        return (matrix @ x[..., None])[..., 0]

    def _back(self, y, matrix):
        if len(matrix.shape) == 2:
            return y @ matrix
        return (y[..., None, :] @ matrix)[..., 0, :]

    def compute_output_shape(self, input_shape: Any) -> Any:
        if self.matrix is None:
            measured, matrix = input_shape
            return (*measured[:-1], matrix[-1])
        return (*input_shape[:-1], len(self.matrix[0]))


@export
class UnfoldedISTA(_Unfolded):
    r"""Iterative soft thresholding with a learned step size per iteration: sparse signals in few steps.

    $$x \leftarrow S_{\gamma_k \lambda}\big(x - \gamma_k A^\top (A x - y)\big),\qquad k = 1, \dots, K,$$

    from $x = 0$, see `kr.inverse.ista`. The $\gamma_k$ are trained, and with `train_threshold` the thresholds
    besides; they are kept at least 0. Trained on signals by `"mse"`, the output is nearest to them; trained on
    measurements alone by `kr.losses.SparseRecoveryObjective`, it is the solution of the Lasso after fewer
    iterations.

    Args:
        matrix: $A$, an array `(m, n)`; `None` if one is given with each sample.
        num_iterations: $K \ge 1$.
        factor: $\lambda \ge 0$.
        step_size: $\gamma > 0$ to start from; `None` for $1 / \|A\|^2$, if the matrix is fixed.
        train_threshold: Whether each iteration has a threshold of its own; else it is $\gamma_k \lambda$.
        share: Whether all iterations have the same step size.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: measurements `(…, m)`; without a fixed matrix a list of measurements `(batch, m)` and matrices `(batch,
    m, n)`. Output: signals `(…, n)`.

    Raises:
        ValueError: If an argument is out of range, the shapes do not fit, or there is neither a matrix nor a step
            size.

    Cost: two products with the matrix per iteration.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(10, 20))
    x = rng.normal(size=(64, 20)) * (rng.uniform(size=(64, 20)) < 0.1)
    y = x @ matrix.T
    net = keras.Sequential([kr.layers.UnfoldedISTA(matrix, 5, 0.1)])
    net.compile("adam", "mse")
    net.fit(y, x, verbose=0)  # Or on measurements alone, as in `kr.losses.SparseRecoveryObjective`.
    ```

    Reference: Koshi Nagahisa, Ryo Hayakawa and Youji Iiguni, *Comparison between Supervised and Unsupervised
    Learning in Deep Unfolded Sparse Signal Recovery*, 2025, arXiv:2509.01331; unfolding: Karol Gregor and Yann
    LeCun, *Learning Fast Approximations of Sparse Coding*, ICML 2010.
    """

    def __init__(
        self,
        matrix: Any = None,
        num_iterations: int = 10,
        factor: float = 0.1,
        step_size: float | None = None,
        train_threshold: bool = False,
        share: bool = False,
        **kwargs: Any,
    ):
        super().__init__(matrix, num_iterations, factor, step_size, share, **kwargs)
        self.train_threshold = bool(train_threshold)

    def threshold_of(self, sizes: Any) -> Any:
        r"""$\gamma \lambda$."""
        return sizes * self.factor

    def shrink(self, x: Any, threshold: Any) -> Any:
        """Soft thresholding."""
        return soft_threshold(x, threshold)


@export
class UnfoldedIHT(_Unfolded):
    r"""Iterative hard thresholding with a learned step size per iteration.

    $$x \leftarrow H_{\sqrt{2 \gamma_k \lambda}}\big(x - \gamma_k A^\top (A x - y)\big),\qquad k = 1, \dots, K,$$

    from $x = 0$, see `kr.inverse.iht`. The $\gamma_k$ are trained and kept at least 0. Where an entry is kept or
    not has no gradient, so that they learn from what is kept, and thresholds of their own would not learn at all.
    Learned steps lead to better local minima than constant ones.

    Args:
        matrix: $A$, an array `(m, n)`; `None` if one is given with each sample.
        num_iterations: $K \ge 1$.
        factor: $\lambda \ge 0$, what an entry that is not 0 costs.
        step_size: $\gamma > 0$ to start from; `None` for $1 / \|A\|^2$, if the matrix is fixed.
        share: Whether all iterations have the same step size.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: measurements `(…, m)`; without a fixed matrix a list of measurements `(batch, m)` and matrices `(batch,
    m, n)`. Output: signals `(…, n)`.

    Raises:
        ValueError: If an argument is out of range, the shapes do not fit, or there is neither a matrix nor a step
            size.

    Cost: two products with the matrix per iteration.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(10, 20))
    x = rng.normal(size=(64, 20)) * (rng.uniform(size=(64, 20)) < 0.1)
    net = keras.Sequential([kr.layers.UnfoldedIHT(matrix, 5, 0.1)])
    net.compile("adam", "mse")
    net.fit(x @ matrix.T, x, verbose=0)
    ```

    Reference: Koshi Nagahisa, Ryo Hayakawa and Youji Iiguni, *Comparison between Supervised and Unsupervised
    Learning in Deep Unfolded Sparse Signal Recovery*, 2025, arXiv:2509.01331.
    """

    def threshold_of(self, sizes: Any) -> Any:
        r"""$\sqrt{2 \gamma \lambda}$, without a gradient."""
        return ops.stop_gradient(ops.sqrt(2.0 * self.factor * sizes))

    def shrink(self, x: Any, threshold: Any) -> Any:
        """Hard thresholding."""
        return hard_threshold(x, threshold)
