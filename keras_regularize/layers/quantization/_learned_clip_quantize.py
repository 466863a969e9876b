"""Quantization between two learned ends."""

from typing import Any

from keras import ops

from keras_regularize.layers.quantization._rounding import round_to_levels
from keras_regularize.numerics import as_float, maximum, upcast
from keras_regularize.validation import check_integer


def learned_clip_quantize(x: Any, lower: Any, upper: Any, bits: int = 4) -> Any:
    r"""Clips to a range and rounds to the $2^b$ levels that divide it, with gradients to the ends.

    $$y = \Delta \operatorname{round}\!\Big(\frac{\operatorname{clip}(x, l, u) - l}{\Delta}\Big) + l, \qquad
    \Delta = \frac{u - l}{2^b - 1}.$$

    The gradient passes the rounding unchanged. Strictly between the ends it is 1 to $x$, and $\pm(q - p)/(2^b -
    1)$ to $u$ and $l$, with $p$ the position in steps and $q$ the level it is rounded to; at or beyond an end it
    is 1 to that end alone.

    Args:
        x: Tensor of any shape.
        lower: $l$, a number or a tensor that broadcasts.
        upper: $u$, likewise; a range below $10^{-6}$ counts as that.
        bits: $b$, at least 1.

    Returns:
        A tensor of the shape and dtype of `x` (integers become floats), computed in at least float32.

    Raises:
        ValueError: If `bits` is no integer of at least 1.

    Example:

    ```python
    import keras_regularize as kr
    import numpy as np

    x = np.array([-3.0, 0.2, 9.0], "float32")
    kr.layers.learned_clip_quantize(x, lower=-1.0, upper=2.0, bits=2)  # [-1, 0, 2]
    ```

    Reference: Nrusimha, Mishra, Wang, Alistarh, Panda and Kim, *Mitigating the Impact of Outlier Channels for
    Language Model Quantization with Activation Regularization*, 2024, arXiv:2404.03605. The authors' kernel
    clips once more before it rounds, which differs for ranges that are not symmetric and is not followed.
    """
    check_integer("bits", bits, minimum=1)
    x = as_float(x)
    wide = upcast(x)
    lower, upper = ops.cast(lower, wide.dtype), ops.cast(upper, wide.dtype)
    levels = 2**bits - 1
    step = maximum(upper - lower, 1e-6) / levels
    return ops.cast(round_to_levels(wide, step, lower, 0.0, float(levels), False), x.dtype)
