"""Activations that decide which classifier a wide network becomes as it grows deep."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_regularize.activations._operation import ActivationOperation
from keras_regularize.numerics import as_float, upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number, check_numbers

_DEFAULT = (0.0, 0.5**0.5, 0.0, 0.5**0.5)


@export
def hermite(x: Any, coefficients: Any = _DEFAULT) -> Any:
    r"""A polynomial activation, given by its coefficients of Hermite polynomials.

    $$\phi(x) = \sum_k a_k\, \frac{\mathrm{He}_k(x)}{\sqrt{k!}},$$

    with the probabilists' polynomials, $\mathrm{He}_1 = x$, $\mathrm{He}_2 = x^2 - 1$,
    $\mathrm{He}_3 = x^3 - 3x$. For a standard normal $x$ the mean of $\phi$ is $a_0$ and that of $\phi^2$ is
    $\sum_k a_k^2$: keep the latter at 1 to keep the scale from layer to layer. The dual activation, by which
    kernels of wide networks are computed, is $c(z) = \sum_k a_k^2 z^k$ (`kr.analysis.infinite_width_kernels`).

    Feed it with values of variance about 1, as behind a normalization: it grows like $|x|^K$ for the degree $K$.

    Args:
        x: Tensor of any shape.
        coefficients: $a_0, a_1, \dots$, at least one; by default those of `singular_kernel`. As an activation with
            other ones use `kr.activations.Hermite(coefficients)`, which is saved with them.

    Returns:
        A tensor of the shape and dtype of `x`. Half-precision input is computed in float32; a result of
        float16 overflows for $|x|$ above about 60 in the third degree.

    Raises:
        ValueError: If there are no coefficients.

    Cost: two products and a sum per element and degree.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    kr.activations.hermite(np.array([-1.0, 0.0, 2.0]), [0.0, 0.6, 0.8])
    layer = keras.layers.Dense(64, activation=kr.activations.Hermite([0.0, 0.6, 0.8]))
    ```

    Reference: Adityanarayanan Radhakrishnan, Mikhail Belkin and Caroline Uhler, *Wide and Deep Neural Networks
    Achieve Optimality for Classification*, PNAS 2023, arXiv:2204.14126.
    """
    if len(coefficients) == 0:
        raise ValueError(f"`coefficients` must not be empty. Received: {coefficients!r}")
    if isinstance(x, keras.KerasTensor):
        return Hermite(coefficients)(x)
    x = as_float(x)
    wide = upcast(x)
    before, polynomial = ops.zeros_like(wide), ops.ones_like(wide)
    total = ops.zeros_like(wide)
    for k in range(len(coefficients)):
        factor = coefficients[k]
        if ops.is_tensor(factor):
            factor = ops.cast(factor, wide.dtype)
        total = total + factor * polynomial
        before, polynomial = (
            polynomial,
            (wide * polynomial - k**0.5 * before) / (k + 1) ** 0.5,
        )
    return ops.cast(total, x.dtype)


@export
class Hermite(ActivationOperation):
    r"""`kr.activations.hermite` with coefficients of its own, which are saved with the layer that has it.

    $$\phi(x) = \sum_k a_k\, \frac{\mathrm{He}_k(x)}{\sqrt{k!}}.$$

    Args:
        coefficients: $a_0, a_1, \dots$, at least one.
        name: Name of the operation.

    Input: a tensor of any shape. Output: one of its shape and dtype.

    Raises:
        ValueError: If there are no coefficients, or one is not a number.

    Cost: that of `kr.activations.hermite`.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    layer = keras.layers.Dense(64, activation=kr.activations.Hermite([0.0, 0.6, 0.8]))
    ```

    Reference: Adityanarayanan Radhakrishnan, Mikhail Belkin and Caroline Uhler, *Wide and Deep Neural Networks
    Achieve Optimality for Classification*, PNAS 2023, arXiv:2204.14126.
    """

    def __init__(self, coefficients: Sequence[float] = _DEFAULT, name: str | None = None):
        super().__init__(name=name)
        if isinstance(coefficients, (int, float)):
            raise ValueError(
                f"`coefficients` must be a list of numbers. Received: coefficients={coefficients!r}"
            )
        self.coefficients = check_numbers("coefficients", coefficients)

    def call(self, x: Any) -> Any:
        return hermite(x, self.coefficients)


@export
def singular_kernel(x: Any, dimension: int = 2) -> Any:
    r"""The activation with which wide and deep networks are consistent classifiers for data of some dimension.

    The `hermite` activation with the coefficients

    $$d = 1:\ a_1 = a_7 = \tfrac1{\sqrt2}; \qquad
      d \ge 2:\ a_1 = a_3 = 2^{-d/4},\quad a_2 = \sqrt{1 - 2^{1 - d/2}}.$$

    An infinitely wide network becomes, with growing depth, a classifier with weights $\|x - x_i\|^{-d}$ of the
    training points, which for data of dimension $d$ on a sphere tends to the error of Bayes with their number
    (`kr.analysis.hilbert_kernel_predict`). Feed it with values of variance about 1.

    Args:
        x: Tensor of any shape.
        dimension: $d$, at least 1: the dimension of the data, one less than the number of features for inputs of
            norm 1. As an activation with another one use `kr.activations.SingularKernel(dimension)`.

    Returns:
        A tensor of the shape and dtype of `x`, as from `hermite`.

    Raises:
        ValueError: If `dimension` is not a positive integer.

    Cost: that of `hermite`, of degree 3, or 7 for dimension 1.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    kr.activations.singular_kernel(np.array([-1.0, 0.0, 2.0]), dimension=4)
    layer = keras.layers.Dense(64, activation=kr.activations.SingularKernel(dimension=4))
    ```

    Reference: Adityanarayanan Radhakrishnan, Mikhail Belkin and Caroline Uhler, *Wide and Deep Neural Networks
    Achieve Optimality for Classification*, PNAS 2023, arXiv:2204.14126. The formula for any
    dimension fits those that the authors publish for dimensions 1, 2, 4 and 8; signs of coefficients are free,
    these are positive.
    """
    return hermite(x, singular_kernel_coefficients(dimension))


def singular_kernel_coefficients(dimension: int) -> list[float]:
    """Coefficients of Hermite polynomials of `singular_kernel`."""
    check_integer("dimension", dimension, minimum=1)
    if dimension == 1:
        return [0.0, 0.5**0.5, *5 * [0.0], 0.5**0.5]
    outer = 2.0 ** (-dimension / 4)
    return [0.0, outer, math.sqrt(1 - 2.0 ** (1 - dimension / 2)), outer]


@export
class SingularKernel(ActivationOperation):
    r"""`kr.activations.singular_kernel` with a dimension of its own, which is saved with the layer that has it.

    $$d = 1:\ a_1 = a_7 = \tfrac1{\sqrt2}; \qquad
      d \ge 2:\ a_1 = a_3 = 2^{-d/4},\quad a_2 = \sqrt{1 - 2^{1 - d/2}}.$$

    Args:
        dimension: $d$, at least 1: the dimension of the data, one less than the number of features for inputs of
            norm 1.
        name: Name of the operation.

    Input: a tensor of any shape. Output: one of its shape and dtype.

    Raises:
        ValueError: If `dimension` is not a positive integer.

    Cost: that of `kr.activations.singular_kernel`.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    layer = keras.layers.Dense(64, activation=kr.activations.SingularKernel(dimension=4))
    ```

    Reference: Adityanarayanan Radhakrishnan, Mikhail Belkin and Caroline Uhler, *Wide and Deep Neural Networks
    Achieve Optimality for Classification*, PNAS 2023, arXiv:2204.14126.
    """

    def __init__(self, dimension: int = 2, name: str | None = None):
        super().__init__(name=name)
        self.dimension = check_integer("dimension", dimension, minimum=1)

    def call(self, x: Any) -> Any:
        return singular_kernel(x, self.dimension)


@export
def normalized_sine(x: Any, frequency: float = 1.0) -> Any:
    r"""A sine with variance 1 for standard normal values.

    $$\phi(x) = \frac{e^{f/2}}{\sqrt{\sinh f}}\, \sin\big(\sqrt f\, x\big),$$

    whose dual activation is $c(z) = \sinh(f z) / \sinh f$. The slope at 0 of the latter, $f / \sinh f$, falls with
    the frequency, that at 1 grows: an infinitely wide and deep network becomes a classifier with weights
    $\|x - x_i\|^{-\alpha}$ for $\alpha = 2 \log(\sinh f / f) / \log(f \coth f)$. For $f \to 0$ it is the identity.

    Args:
        x: Tensor of any shape.
        frequency: $f > 0$. As an activation with another one use `kr.activations.NormalizedSine(frequency)`.

    Returns:
        A tensor of the shape and dtype of `x`. Half-precision input is computed in float32.

    Raises:
        ValueError: If `frequency` is not positive.

    Cost: a sine.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    kr.activations.normalized_sine(np.array([-1.0, 0.0, 2.0]), frequency=2.0)
    layer = keras.layers.Dense(64, activation=kr.activations.NormalizedSine(frequency=2.0))
    ```

    Reference: Adityanarayanan Radhakrishnan, Mikhail Belkin and Caroline Uhler, *Wide and Deep Neural Networks
    Achieve Optimality for Classification*, PNAS 2023, arXiv:2204.14126.
    """
    check_number("frequency", frequency, above=0)
    if isinstance(x, keras.KerasTensor):
        return NormalizedSine(frequency)(x)
    x = as_float(x)
    # e^f / sinh f, without overflow or cancellation.
    scale = math.sqrt(-2.0 / math.expm1(-2.0 * frequency))
    return ops.cast(scale * ops.sin(math.sqrt(frequency) * upcast(x)), x.dtype)


@export
class NormalizedSine(ActivationOperation):
    r"""`kr.activations.normalized_sine` with a frequency of its own, which is saved with the layer that has it.

    $$\phi(x) = \frac{e^{f/2}}{\sqrt{\sinh f}}\, \sin\big(\sqrt f\, x\big).$$

    Args:
        frequency: $f > 0$.
        name: Name of the operation.

    Input: a tensor of any shape. Output: one of its shape and dtype.

    Raises:
        ValueError: If `frequency` is not positive.

    Cost: a sine.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    layer = keras.layers.Dense(64, activation=kr.activations.NormalizedSine(frequency=2.0))
    ```

    Reference: Adityanarayanan Radhakrishnan, Mikhail Belkin and Caroline Uhler, *Wide and Deep Neural Networks
    Achieve Optimality for Classification*, PNAS 2023, arXiv:2204.14126.
    """

    def __init__(self, frequency: float = 1.0, name: str | None = None):
        super().__init__(name=name)
        self.frequency = check_number("frequency", frequency, above=0)

    def call(self, x: Any) -> Any:
        return normalized_sine(x, self.frequency)
