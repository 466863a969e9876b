"""Cauchy-Schwarz regularizers: two elementwise functions of the weights that shall be parallel."""

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.numerics import upcast
from keras_regularize.registration import export
from keras_regularize.regularizers.cauchy_schwarz._gap import FORMS, gap
from keras_regularize.utils.groups import check_axis
from keras_regularize.validation import check_choice, check_number


@export
class CauchySchwarz(Configured, keras.regularizers.Regularizer):
    r"""Drives weights to where two functions of them are parallel, by the gap of the Cauchy-Schwarz inequality.

    $$\lambda \sum_{f} \left(\lVert g(w_f) \rVert^2\, \lVert h(w_f) \rVert^2 -
    \langle g(w_f), h(w_f) \rangle^2\right) \ge 0$$

    over groups $f$ of weights (filters), zero if and only if $g(w_f)$ and $h(w_f)$ are parallel. Elementwise
    $g$ and $h$ make penalties that vanish on a set of values and any multiple of it, with no scale to choose:
    $g = w^2, h = 1$ on $\{-a, a\}$ (`BinaryCauchySchwarz`), $g = w^3, h = w$ on $\{-a, 0, a\}$
    (`TernaryCauchySchwarz`), $g = w^2, h = w$ on $\{0, a\}$ (`OneSidedBinaryCauchySchwarz`).

    Computed as $\lVert h\rVert^2\, \lVert g - c h \rVert^2$ with the best coefficient $c$, which is accurate
    also where the value is tiny; the formula above, in single precision, is noise there.

    Args:
        g: Elementwise function of a tensor. Saving needs one registered with
            `keras.saving.register_keras_serializable`.
        h: The same for the second function.
        factor: $\lambda \ge 0$. The value has the degree in the weights of $g^2 h^2$, so that small weights
            need large factors.
        axis: Axes that index the groups: `-1` (default) for dense and convolutional kernels
            `(…, in, out)`, `(-2, -1)` for one group per spatial kernel, `None` for the whole tensor.
        normalize: Whether to divide the sum by the number of weights.
        form: `"product"` as above; `"difference"`, $\lVert g\rVert \lVert h\rVert - |\langle g, h\rangle|$, of
            half the degree; or `"ratio"`, $\lVert g\rVert \lVert h\rVert / |\langle g, h\rangle| - 1$, which
            does not depend on the scale of the weights (at most $10^6$; groups of weights too small to be
            squared twice count as zero).

    Input: a weight of any shape. Output: a scalar in at least float32.

    Raises:
        ValueError: If an argument is out of range, or `axis` does not name axes of the weight.

    Cost: a few elementwise passes over the weight.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    # Weights of equal size or zero, of any sign: w² parallel to |w|.
    even = kr.regularizers.CauchySchwarz(keras.ops.square, keras.ops.abs, factor=1e3)
    layer = keras.layers.Dense(16, kernel_regularizer=even)
    ```

    Reference: Sueda Taner, Ziyi Wang and Christoph Studer, *Cauchy-Schwarz Regularizers*, ICLR 2025,
    arXiv:2503.01639.
    """

    def __init__(
        self,
        g: Callable[[Any], Any],
        h: Callable[[Any], Any],
        factor: float = 1.0,
        axis: int | tuple[int, ...] | None = -1,
        normalize: bool = True,
        form: str = "product",
    ):
        for name, function in {"g": g, "h": h}.items():
            if not callable(function):
                raise ValueError(
                    f"`{name}` must be a function of a tensor. Received: {name}={function!r}"
                )
        self.g = g
        self.h = h
        self.factor = check_number("factor", factor, minimum=0)
        self.axis = check_axis(axis)
        self.normalize = bool(normalize)
        self.form = check_choice("form", form, FORMS)

    def __call__(self, x: Any) -> Any:
        weight = upcast(x)
        total = ops.sum(gap(self.g(weight), self.h(weight), self.axis, self.form))
        return self.factor * (total / math.prod(weight.shape) if self.normalize else total)
