"""HyperSparse: small weights are pulled to zero, large ones let go."""

from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.numerics import GUARD, maximum, safe_abs, upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class HyperSparse(Configured, keras.regularizers.Regularizer):
    r"""Pulls the weights that pruning would remove to zero, and hardly touches the ones it would keep.

    $$\lambda\left(\sum_i |w_i| \cdot \frac{\sum_j \tanh(s |w_j|)}{\Big[\sum_j \tanh(s |w_j|)\Big]} -
    \sum_i |w_i|\right),\qquad s = \frac{0.6585}{|w|_{(\kappa n)}},$$

    in which $s$, the bracket and the sums of $|w_i|$ are constants for the gradient, $\kappa$ is the share of
    weights to be removed and $|w|_{(\kappa n)}$ the size that separates them from the rest. **The value is
    always 0**; the gradient is

    $$\lambda \operatorname{sign}(w_i)\, s \operatorname{sech}^2(s|w_i|)\,
    \frac{\sum_j |w_j|}{\sum_j \tanh(s|w_j|)},$$

    nearly that of L1 below the threshold, falling to zero above it. It does not change if all weights are
    scaled. Exact zeros stay.

    The authors apply it to all kernels at once, in a schedule that raises the factor after each epoch until the
    pruned network is as good as the dense one; here the threshold is that of each tensor. Prune by magnitude
    at the same share afterwards.

    Args:
        factor: $\lambda \ge 0$. The authors start at 5e-6 after a warmup and multiply it by 1.05 per epoch.
        sparsity: $\kappa$ in [0, 1], the share of weights to be removed.

    Input: a weight of any shape. Output: a scalar 0 in at least float32, with the gradient above.

    Raises:
        ValueError: If an argument is out of range.

    Cost: a sort of the weight.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    layer = keras.layers.Dense(16, kernel_regularizer=kr.regularizers.HyperSparse(1e-4, sparsity=0.8))
    ```

    Reference: Patrick Glandorf, Timo Kaiser and Bodo Rosenhahn, *HyperSparse Neural Networks: Shifting
    Exploration to Exploitation through Adaptive Regularization*, ICCV Workshops 2023, arXiv:2308.07163.
    """

    def __init__(self, factor: float = 5e-6, sparsity: float = 0.9):
        self.factor = check_number("factor", factor, minimum=0)
        self.sparsity = check_number("sparsity", sparsity, minimum=0, maximum=1)

    def __call__(self, x: Any) -> Any:
        return self.factor * hyper_sparse_loss(x, self.sparsity)


#: `arctanh(1 / sqrt(3))`, where the third derivative of tanh vanishes, to the digits of the authors' code.
INFLECTION = 0.6585


def hyper_sparse_loss(w: Any, sparsity: float) -> Any:
    r"""$\sum|w| \, S / \bar S - \sum|w|$ with $S = \sum \tanh(s|w|)$: always 0, with a gradient.

    The bar stops the gradient; $s = 0.6585 / |w|_{(k)}$ with $k = \lfloor \text{sparsity} \cdot n \rfloor$ sets
    the slope by the magnitude below which that part of the weights lies. Not the sum but each weight's gradient,
    $\operatorname{sign}(w)\, s \operatorname{sech}^2(s|w|) \sum|w| / S$, is what counts: about constant below
    that magnitude, about 0 above. Zero weights have none.

    Args:
        w: A tensor of weights, of any shape.
        sparsity: Part of the weights in [0, 1] that should vanish.

    Returns:
        A scalar, 0, of at least float32.
    """
    magnitudes = safe_abs(ops.reshape(upcast(w), (-1,)))
    size = magnitudes.shape[0]
    ordered = ops.sort(ops.stop_gradient(magnitudes))
    threshold = ordered[min(int(sparsity * size), size - 1)]
    total = ops.sum(ops.tanh(magnitudes * (INFLECTION / maximum(threshold, GUARD))))
    fixed = ops.stop_gradient(total)
    scale = ops.stop_gradient(ops.sum(magnitudes)) / ops.where(fixed > 0, fixed, 1.0)
    return scale * (total - fixed)
