"""How fast a function changes between neighbours, on the manifold that the samples lie on."""

from typing import Any

from keras import ops

from keras_regularize.ops.points import mean_slopes
from keras_regularize.validation import check_number


def weighted_laplacian_penalty(
    outputs: Any, inputs: Any, weights: Any, bandwidth: float = 1.0
) -> Any:
    r"""Sum over the samples of a weight times how much a function differs from that at neighbours.

    $$\sum_i \lambda_i s_i, \qquad s_i = \frac{\sum_{j \ne i} k_{ij} \|f_i - f_j\|^2}{\sum_{j \ne i} k_{ij}},
    \qquad
      k_{ij} = e^{-\|x_i - x_j\|^2 / 4t},$$

    a Laplacian quadratic form: an estimate of the squared gradient along the manifold of the inputs. Equal weights
    give the usual manifold regularization, one weight at the largest $s_i$ the worst case. A sample so far from
    all others that its kernels are 0 has $s_i = 0$.

    Args:
        outputs: $f$, `(n, …)`, flattened.
        inputs: $x$, `(n, …)`, flattened.
        weights: $\lambda \ge 0$, `(n,)`.
        bandwidth: $t > 0$, of the squared distance of neighbours.

    Returns:
        A scalar in at least float32.

    Raises:
        ValueError: If sizes do not fit or `bandwidth` is not positive.

    Cost: two matrix products, `n² · dim` of inputs and outputs.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    x = np.linspace(0, 1, 8)[:, None]
    kr.losses.weighted_laplacian_penalty(np.sin(x), x, np.full(8, 1 / 8), bandwidth=0.01)
    ```

    Reference: Juan Cerviño, Luiz F. O. Chamon, Benjamin D. Haeffele, René Vidal and Alejandro Ribeiro, *Learning
    Globally Smooth Functions on Manifolds*, ICML 2023, arXiv:2210.00301.
    """
    slopes = mean_slopes(outputs, inputs, check_number("bandwidth", bandwidth, above=0))
    weights = ops.cast(ops.convert_to_tensor(weights), slopes.dtype)
    if (
        len(weights.shape) != 1
        or None not in (n := (weights.shape[0], slopes.shape[0]))
        and n[0] != n[1]
    ):
        raise ValueError(
            "`weights` must be one per sample, (n,). Received: "
            f"weights.shape={tuple(weights.shape)} for {slopes.shape[0]} samples"
        )
    return ops.sum(weights * slopes)
