"""The loss of HyperSparse: a penalty that the smallest weights feel and the others do not."""

from typing import Any

from keras import ops

from keras_regularize.numerics import maximum, safe_abs, upcast

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
    total = ops.sum(ops.tanh(magnitudes * (INFLECTION / maximum(threshold, 1e-12))))
    fixed = ops.stop_gradient(total)
    scale = ops.stop_gradient(ops.sum(magnitudes)) / ops.where(fixed > 0, fixed, 1.0)
    return scale * (total - fixed)
