"""The loss that matches an output activation: convex in the pre-activation."""

from keras import ops

from keras_regularize.losses.loss import Loss
from keras_regularize.numerics import safe_abs, safe_expm1
from keras_regularize.registration import export
from keras_regularize.targets import align_targets, mean_of_outputs
from keras_regularize.validation import check_choice, check_number

LOG_2 = 0.6931471805599453


def _half_square(activation):
    # What is homogeneous for positive factors has the integral z sigma(z) / 2.
    return lambda z, slope: 0.5 * z * activation(z, slope)


def _log_cosh(z):
    size = safe_abs(z)
    return size + ops.softplus(-2.0 * size) - LOG_2


# The integral of each activation from 0, as a function of the pre-activation and the slope below 0.
INTEGRALS = {
    "linear": _half_square(lambda z, slope: z),
    "relu": _half_square(lambda z, slope: ops.relu(z)),
    "leaky_relu": _half_square(lambda z, slope: ops.where(z > 0, z, slope * z)),
    "sigmoid": lambda z, slope: ops.softplus(z) - LOG_2,
    "tanh": lambda z, slope: _log_cosh(z),
    "exponential": lambda z, slope: safe_expm1(z),
}


@export
class MatchingLoss(Loss):
    r"""Loss whose gradient is the error itself, however flat the output activation is.

    A neuron with activation $\sigma$ trained on squared error has the gradient
    $(\sigma(z) - y)\,\sigma'(z)$ at its pre-activation $z$, which vanishes where the activation is flat: a dead
    relu stays dead. The matching loss of $\sigma$ leaves $\sigma'$ away,

    $$\ell(y, z) = \int_0^z (\sigma(t) - y)\,dt, \qquad \frac{\partial \ell}{\partial z} = \sigma(z) - y,$$

    is convex in $z$ for every $\sigma$ that does not decrease, and has its minimum where $\sigma(z) = y$. Values
    may be negative. Gradient descent on it over a ball of weights learns a single neuron robustly: up to a
    constant factor in squared error as well as the best neuron, even where labels were corrupted on purpose
    (Wang et al.).

    The model gives out $z$: leave the activation off the last layer, and apply it to what `predict` returns. In
    closed form, up to the term $-yz$:

    | activation | $\int_0^z \sigma$ | known as |
    |---|---|---|
    | `"linear"` | $z^2 / 2$ | half the squared error, less $y^2/2$ |
    | `"relu"` | $\max(z, 0)^2 / 2$ | |
    | `"leaky_relu"` | $z^2 / 2$, and $a z^2 / 2$ below 0 | |
    | `"sigmoid"` | $\log(1 + e^z) - \log 2$ | binary cross-entropy less $\log 2$ |
    | `"tanh"` | $\log \cosh z$ | |
    | `"exponential"` | $e^z - 1$ (above 60 its tangent) | Poisson loss up to constants |

    Args:
        activation: Name of the activation $\sigma$, one of the table.
        negative_slope: Slope $a$ of `"leaky_relu"` below 0, at least 0; not used otherwise.
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Targets in the range of the activation, of the shape of `y_pred` or without its last axis if
            that has size 1.
        y_pred: Pre-activations `(batch, units)` or `(batch,)`.

    Returns:
        With `reduction="none"` one value per sample, the mean over units; else a scalar. Further axes between
        batch and units are positions.

    Raises:
        ValueError: If an argument is out of range, or if the shapes do not fit.

    Cost: that of squared error and the activation.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x = np.random.normal(size=(64, 8))
    y = np.maximum(x[:, 0] - x[:, 1], 0)
    neuron = keras.layers.Dense(1, use_bias=False, kernel_constraint=keras.constraints.MaxNorm(2))
    model = keras.Sequential([neuron])
    model.compile(keras.optimizers.SGD(0.1), loss=kr.losses.MatchingLoss("relu"))
    model.fit(x, y, verbose=0)
    predicted = keras.ops.relu(model.predict(x, verbose=0))
    ```

    Reference: Auer, Herbster and Warmuth, *Exponentially Many Local Minima for Single Neurons*, NIPS 1995; the
    guarantee under corrupted labels: Wang, Zarifis, Diakonikolas and Diakonikolas, *Robustly Learning a Single
    Neuron via Sharpness*, ICML 2023, arXiv:2306.07892.
    """

    def __init__(
        self,
        activation: str = "relu",
        negative_slope: float = 0.01,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "matching_loss",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.activation = check_choice("activation", activation, INTEGRALS)
        self.negative_slope = check_number("negative_slope", negative_slope, minimum=0)

    def call(self, y_true, y_pred):
        y, z = align_targets(y_true, y_pred)
        return mean_of_outputs(INTEGRALS[self.activation](z, self.negative_slope) - y * z)
