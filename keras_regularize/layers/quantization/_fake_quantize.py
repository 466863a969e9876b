"""Quantization with a learned step size."""

from typing import Any

from keras_regularize.layers.quantization._rounding import first_level, learned_step
from keras_regularize.numerics import as_float
from keras_regularize.validation import check_integer


def fake_quantize(
    x: Any,
    scale: Any,
    offset: Any = 0.0,
    bits: int = 8,
    signed: bool = True,
    gradient_scale: float = 1.0,
) -> Any:
    r"""Rounds to $2^b$ levels and stays float, with gradients to the tensor, the step and the offset.

    $$y = s' \operatorname{round}\!\Big(\operatorname{clip}\!\Big(\frac{x - z}{s'}, \ell, h\Big)\Big) + z, \qquad
    s' = |s| + 10^{-6},$$

    with levels from $\ell = -2^{b-1}$ to $h = 2^{b-1} - 1$, or from 0 to $2^b - 1$. The gradient passes the
    rounding unchanged (halves go to the even level): to $x$ it is 1 within the range and 0 outside; to the
    step $q - (x - z)/s'$ within, $\ell$ or $h$ outside, $q$ the level; to the offset 0 within and 1 outside.
    This is LSQ with an offset.

    Args:
        x: Tensor of any shape.
        scale: Step $s$, a number or a tensor that broadcasts, for instance `(out,)` for a step per filter.
        offset: $z$, likewise; 0 for symmetric quantization.
        bits: $b$, at least 2.
        signed: Whether there are negative levels.
        gradient_scale: What the gradients to `scale` and `offset` are multiplied by; the papers take
            $1/\sqrt{h n}$ for a tensor of $n$ entries.

    Returns:
        A tensor of the shape and dtype of `x` (integers become floats), computed in at least float32.

    Raises:
        ValueError: If `bits` is no integer of at least 2.

    Example:

    ```python
    import keras_regularize as kr
    import numpy as np

    kr.layers.fake_quantize(np.array([0.1, 0.6, 9.0], "float32"), scale=0.5, bits=3)  # [0, 0.5, 1.5]
    ```

    Reference: Xu, Han, Tian, Yang and Zhang, *EQ-Net: Elastic Quantization Neural Networks*, ICCV 2023,
    arXiv:2308.07650; Esser, McKinstry, Bablani, Appuswamy and Modha, *Learned Step Size Quantization*, ICLR 2020,
    arXiv:1902.08153. The code of EQ-Net takes $|z|$, which turns negative offsets around; here $z$ keeps its
    sign.
    """
    check_integer("bits", bits, minimum=2)
    low = first_level(bits, signed)
    x = as_float(x)
    return learned_step(x, scale, offset, low, low + 2**bits - 1, gradient_scale)
