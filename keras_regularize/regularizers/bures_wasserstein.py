"""A kernel whose outputs have a given covariance."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.autodiff import straight_through
from keras_regularize.configuration import Configured
from keras_regularize.numerics import matmul, upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class BuresWasserstein(Configured, keras.regularizers.Regularizer):
    r"""Pulls the covariance that a kernel gives to white noise towards a given one.

    $$\lambda\, B^2\big(\Sigma,\, K^\top K + \tau I\big), \qquad
      B^2(\Sigma, B) = \operatorname{tr} \Sigma + \operatorname{tr} B
      - 2 \operatorname{tr} \big(\Sigma^{1/2} B\, \Sigma^{1/2}\big)^{1/2}$$

    for a kernel $K$ `(in, out)`: its outputs for standard normal inputs have the covariance $K^\top K$. With
    $W = K^\top$ it is computed as $\operatorname{tr} \Sigma + \|W\|_F^2 + \tau n
    - 2\, \|\Sigma^{1/2} [W, \sqrt\tau I]\|_*$. A kernel of $k$ inputs can at best keep the $k$ largest eigenvalues
    of $\Sigma$: `kr.analysis.bures_critical_values` tells what it reaches, and where else training may stand
    still. The loss of a deep linear generator is this penalty on the product of its kernels.

    The gradient is $2 (W - \Sigma^{1/2} [U V^\top])$ of the thin singular value decomposition $U S V^\top$, whose
    own derivative does not count. Where $\Sigma^{1/2} W$ loses rank at $\tau = 0$ it is one subgradient, of a
    length that stays finite; there is no second derivative.

    Args:
        covariance: $\Sigma$, a symmetric `(out, out)` matrix without eigenvalues below 0.
        factor: $\lambda \ge 0$.
        epsilon: $\tau \ge 0$, which makes the penalty smooth where the kernel loses rank.

    Input: a kernel `(in, out)`. Output: a scalar in at least float32.

    Raises:
        ValueError: If an argument is out of range, `covariance` is no covariance, or the kernel does not fit.

    Cost: a singular value decomposition `(out, in)`, with $\tau > 0$ `(out, in + out)`.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    covariance = [[2.0, 0.5], [0.5, 1.0]]
    generator = keras.layers.Dense(
        2, use_bias=False, kernel_regularizer=kr.regularizers.BuresWasserstein(covariance)
    )
    ```

    Reference: Pierre Bréchet, Katerina Papagiannouli, Jing An and Guido Montúfar, *Critical Points and Convergence
    Analysis of Generative Deep Linear Networks Trained with Bures-Wasserstein Loss*, ICML 2023, arXiv:2303.03027.
    As in the authors' code the covariance of the kernel alone is smoothed.
    """

    def __init__(self, covariance: Any, factor: float = 1.0, epsilon: float = 0.0):
        matrix = check_covariance(covariance)
        self.covariance = matrix.tolist()
        self.factor = check_number("factor", factor, minimum=0)
        self.epsilon = check_number("epsilon", epsilon, minimum=0)
        values, vectors = np.linalg.eigh(matrix)
        self._root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
        self._trace = float(np.trace(matrix))

    def __call__(self, x: Any) -> Any:
        kernel, size = upcast(x), len(self.covariance)
        if len(kernel.shape) != 2 or kernel.shape[1] != size:
            raise ValueError(
                f"Expected a kernel (in, {size}), for a covariance of {size} outputs. "
                f"Received: shape={tuple(kernel.shape)}"
            )
        given = ops.stop_gradient(kernel)
        finite = ops.all(ops.isfinite(given))
        given = ops.where(finite, given, 0.0)  # A decomposition of NaN raises on some backends.
        if self.epsilon > 0:
            one = ops.eye(size, dtype=given.dtype)
            given = ops.concatenate([given, self.epsilon**0.5 * one], axis=0)
        root = ops.convert_to_tensor(self._root, given.dtype)
        left, values, right = ops.linalg.svd(matmul(given, root), full_matrices=False)
        nuclear = ops.where(finite, ops.sum(values), float("nan"))
        gradient = matmul(matmul(left, right), root)[: kernel.shape[0]]
        nuclear = straight_through(nuclear, ops.sum(ops.stop_gradient(gradient) * kernel))
        constant = self._trace + self.epsilon * size
        return self.factor * (constant + ops.sum(kernel * kernel) - 2.0 * nuclear)


def check_covariance(covariance: Any) -> np.ndarray:
    """A covariance as a float64 matrix, which must be finite, symmetric and have no eigenvalue below 0."""
    given = (
        covariance
        if isinstance(covariance, (list, tuple, np.ndarray))
        else (ops.convert_to_numpy(covariance))
    )
    matrix = np.asarray(given, "float64")
    square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1] > 0
    if not square or not np.isfinite(matrix).all():
        raise ValueError(
            f"`covariance` must be a square matrix of finite numbers. Received: shape={matrix.shape}"
        )
    size = np.abs(matrix).max()
    symmetric = np.abs(matrix - matrix.T).max() <= 1e-5 * size
    if not symmetric or np.linalg.eigvalsh(matrix).min() < -1e-5 * size:
        raise ValueError(
            "`covariance` must be symmetric and have no eigenvalue below 0. Received: "
            f"covariance={matrix.tolist()}"
        )
    return 0.5 * (matrix + matrix.T)
