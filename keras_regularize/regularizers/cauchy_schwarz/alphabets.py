"""Cauchy-Schwarz regularizers whose zeros are weights of a few values."""

from typing import Any

from keras import ops

from keras_regularize.registration import export
from keras_regularize.regularizers.cauchy_schwarz.cauchy_schwarz import CauchySchwarz


class _Alphabet(CauchySchwarz):
    """A `CauchySchwarz` whose two functions are given by the class."""

    def __init__(
        self,
        factor: float = 1.0,
        axis: int | tuple[int, ...] | None = -1,
        normalize: bool = True,
        form: str = "product",
    ):
        super().__init__(self.g, self.h, factor, axis, normalize, form)


@export
class BinaryCauchySchwarz(_Alphabet):
    r"""Drives the weights of every filter to two values $\pm a$, whatever $a$ is: binary weights.

    $$\frac{\lambda}{N} \sum_f \Big( n \sum_{i} w_{fi}^4 - \big(\sum_i w_{fi}^2\big)^2 \Big)$$

    over filters of $n$ weights, $N$ weights in all: $n^2$ times the variance of the squared weights. Zero if
    and only if all weights of a filter have the same size; the filter finds its own $a$. After training
    apply `kr.constraints.Binary` once and fine-tune biases and scales.

    Args:
        factor: $\lambda \ge 0$. The value is of degree 4 in the weights; the authors use 10 for residual
            networks.
        axis: Axes that index the groups (filters): `-1`, `(-2, -1)` for one group per spatial kernel, `None`
            for the whole tensor.
        normalize: Whether to divide the sum by the number $N$ of weights, as the authors' code does.
        form: `"product"`; or `"difference"` or `"ratio"` of the two sides of the inequality, see
            `kr.regularizers.CauchySchwarz`.

    Input: a weight of any shape. Output: a scalar in at least float32.

    Raises:
        ValueError: If an argument is out of range, or `axis` does not name axes of the weight.

    Cost: a few elementwise passes over the weight.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    layer = keras.layers.Conv2D(16, 3, kernel_regularizer=kr.regularizers.BinaryCauchySchwarz(10.0))
    ```

    Reference: Sueda Taner, Ziyi Wang and Christoph Studer, *Cauchy-Schwarz Regularizers*, ICLR 2025,
    arXiv:2503.01639.
    """

    g = staticmethod(ops.square)
    h = staticmethod(ops.ones_like)


@export
class TernaryCauchySchwarz(_Alphabet):
    r"""Drives the weights of every filter to the values $-a, 0, a$, whatever $a$ is: ternary weights.

    $$\frac{\lambda}{N} \sum_f \Big( \sum_{i} w_{fi}^2 \sum_i w_{fi}^6 - \big(\sum_i w_{fi}^4\big)^2 \Big)$$

    with $N$ weights in all. Zero if and only if all weights of a filter that are not zero have the same size.
    After training apply `kr.constraints.Ternary` once and fine-tune biases and scales.

    Args:
        factor: $\lambda \ge 0$. The value is of degree 8 in the weights, about $10^{-16}$ for weights of
            $10^{-2}$, so that large factors are normal; the authors use $10^5$ for CIFAR-10 and $10^3$ for
            ImageNet.
        axis: Axes that index the groups (filters): `-1`, `(-2, -1)` for one group per spatial kernel, `None`
            for the whole tensor.
        normalize: Whether to divide the sum by the number $N$ of weights, as the authors' code does.
        form: `"product"`; or `"difference"` or `"ratio"` of the two sides of the inequality, see
            `kr.regularizers.CauchySchwarz`.

    Input: a weight of any shape. Output: a scalar in at least float32.

    Raises:
        ValueError: If an argument is out of range, or `axis` does not name axes of the weight.

    Cost: a few elementwise passes over the weight.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    layer = keras.layers.Conv2D(16, 3, kernel_regularizer=kr.regularizers.TernaryCauchySchwarz(1e5))
    ```

    Reference: Sueda Taner, Ziyi Wang and Christoph Studer, *Cauchy-Schwarz Regularizers*, ICLR 2025,
    arXiv:2503.01639.
    """

    @staticmethod
    def g(x: Any) -> Any:
        return x * x * x

    @staticmethod
    def h(x: Any) -> Any:
        return x


@export
class OneSidedBinaryCauchySchwarz(_Alphabet):
    r"""Drives the weights of every filter to the values $0$ and $a$ of one sign, whatever $a$ is: switches.

    $$\frac{\lambda}{N} \sum_f \Big( \sum_{i} w_{fi}^2 \sum_i w_{fi}^4 - \big(\sum_i w_{fi}^3\big)^2 \Big)$$

    with $N$ weights in all. Zero if and only if all weights of a filter that are not zero are equal, sign
    included.

    Args:
        factor: $\lambda \ge 0$. The value is of degree 6 in the weights.
        axis: Axes that index the groups (filters): `-1`, `(-2, -1)` for one group per spatial kernel, `None`
            for the whole tensor.
        normalize: Whether to divide the sum by the number $N$ of weights.
        form: `"product"`; or `"difference"` or `"ratio"` of the two sides of the inequality, see
            `kr.regularizers.CauchySchwarz`.

    Input: a weight of any shape. Output: a scalar in at least float32.

    Raises:
        ValueError: If an argument is out of range, or `axis` does not name axes of the weight.

    Cost: a few elementwise passes over the weight.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    switches = kr.regularizers.OneSidedBinaryCauchySchwarz(100.0)
    layer = keras.layers.Dense(16, kernel_regularizer=switches)
    ```

    Reference: Sueda Taner, Ziyi Wang and Christoph Studer, *Cauchy-Schwarz Regularizers*, ICLR 2025,
    arXiv:2503.01639.
    """

    g = staticmethod(ops.square)

    @staticmethod
    def h(x: Any) -> Any:
        return x
