"""A smooth Huber loss."""

from keras import ops

from keras_regularize.losses.loss import Loss
from keras_regularize.registration import export
from keras_regularize.targets import align_targets, mean_of_outputs
from keras_regularize.validation import check_choice, check_number

#: What multiplies $\sqrt{e^2 + \delta^2} - \delta$.
SCALINGS = {
    "huber": lambda delta: delta,
    "l2": lambda delta: 2.0 * delta,
    "l1": lambda delta: 2.0,
}


def pseudo_huber(error, delta, scaling):
    """The loss of each error, without the cancellation of the formula."""
    core = ops.square(error)
    return SCALINGS[scaling](delta) * core / (ops.sqrt(core + delta * delta) + delta)


@export
class PseudoHuber(Loss):
    r"""Squared error of small errors and absolute error of large ones, smooth throughout.

    For the error $e = \hat y - y$,

    $$\ell = \delta^2 \Big( \sqrt{1 + (e / \delta)^2} - 1 \Big),$$

    about $e^2 / 2$ far below $\delta$ and $\delta |e|$ far above it: the gradient is bounded by $\delta$, so
    that a single wrong target pulls no harder than many small errors. Unlike that of Keras' `Huber` the second
    derivative has no jump. `generative.scheduled_pseudo_huber` has a $\delta$ per sample, as diffusion models
    need it.

    Args:
        delta: $\delta > 0$, in units of the targets.
        scaling: `"huber"`, the formula; `"l2"`, twice that, squared error as $\delta \to \infty$; `"l1"`,
            $2 / \delta$ times that, twice the absolute error as $\delta \to 0$.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Targets `(batch, …, outputs)` or `(batch,)`.
        y_pred: Predictions of the same shape. A last axis of size 1 may be missing on either side.

    Returns:
        With `reduction="none"` values `(batch, …)`, the mean over outputs; else a scalar.

    Raises:
        ValueError: If `delta` is not positive, `scaling` is none of the three, or the shapes do not fit.

    Cost: that of squared error and a square root.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.losses.PseudoHuber(delta=1.0)(np.array([0.0, 0.0]), np.array([0.0, 100.0]))  # 49.5
    ```

    Reference: Artem Khrapov, Vadim Popov, Tasnima Sadekova, Assel Yermekova and Mikhail Kudinov, *Improving
    Diffusion Models's Data-Corruption Resistance using Scheduled Pseudo-Huber Loss*, 2024, arXiv:2403.16728.
    """

    def __init__(
        self,
        delta: float = 1.0,
        scaling: str = "huber",
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "pseudo_huber",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.delta = check_number("delta", delta, above=0)
        self.scaling = check_choice("scaling", scaling, SCALINGS)

    def call(self, y_true, y_pred):
        targets, predicted = align_targets(y_true, y_pred)
        return mean_of_outputs(pseudo_huber(predicted - targets, self.delta, self.scaling))
