"""Penalties on the norm of the loss' gradient with respect to the weights."""

from typing import Any

import keras

from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.models.sharpness._gradients import combine, like, move, multiply
from keras_regularize.numerics import global_norm
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_number


@export
class GradientRegularization(RegularizedModel):
    r"""Penalizes the gradient norm of the loss: $L + \frac{\gamma}{2}\|\nabla L\|_2^2$.

    The gradient of the penalty is $\gamma H g$ with $g = \nabla L(w)$; the finite differences

    $$\text{forward: } \gamma\,\frac{\nabla L(w + \epsilon g) - g}{\epsilon}, \qquad
    \text{backward: } \gamma\,\frac{g - \nabla L(w - \epsilon g)}{\epsilon}$$

    need no second derivative, and the forward one with a rather large $\epsilon$ generalizes best (the paper's
    point). `normalize=True` ascends along $g / (\|g\| + 10^{-12})$ instead, for the target
    $L + \gamma\|\nabla L\|$ (gradient norm penalty, as in its authors' code). With `factor == step`, forward is
    the gradient at $w + \epsilon g$, and with `normalize=True` it is `SAM(rho=step)`.

    With `"exact"`, on TensorFlow with batch normalization in training mode, the second derivatives that the step
    needs are wrong: Keras takes moments by an operation that treats the mean within the variance as a constant.

    Args:
        model: The model to train, or another wrapper.
        factor: Weight $\gamma$ of the penalty, at least 0; or a schedule. Without `normalize`, training
            diverges when `factor` times the largest curvature nears 1.
        step: Step $\epsilon$ of the difference, above 0; not below 1e-3 in float32.
        scheme: `"forward"`, `"backward"` or `"exact"` (double backward).
        normalize: Whether to penalize the norm rather than half its square.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range or `model` is not a `keras.Model`.

    Cost: two forward-backward passes per step; `"exact"` one and a Hessian-vector product (about three), which
    `torch.compile` cannot do: `jit_compile=True` runs eagerly on torch, with a warning.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    net = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model = kr.models.GradientRegularization(net, factor=0.05, step=0.05)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(np.ones((8, 3)), np.zeros(8), verbose=0)
    ```

    Reference: Karakida, Takase, Hayase and Osawa, *Understanding Gradient Regularization in Deep Learning:
    Efficient Finite-Difference Computation and Implicit Bias*, ICML 2023, arXiv:2210.02720. `normalize=True`:
    Zhao, Zhang and Hu, *Penalizing Gradient Norm for Efficiently Improving Generalization in Deep Learning*,
    ICML 2022, arXiv:2202.03599 (their $\alpha$, $r$: `factor` is
    $\alpha r$, `step` is $r$; their recipes have $\alpha = 0.8$, $r = 0.1$).
    """

    def __init__(
        self,
        model: keras.Model,
        factor: Any = 0.05,
        step: float = 0.05,
        scheme: str = "forward",
        normalize: bool = False,
        **kwargs: Any,
    ):
        super().__init__(model, **kwargs)
        self.factor = check_number("factor", factor, minimum=0, schedule=True)
        self.step = check_number("step", step, above=0)
        self.scheme = check_choice("scheme", scheme, ("forward", "backward", "exact"))
        self.normalize = normalize
        self.double_backward = scheme == "exact"

    def gradients(self, objective, weights, batch):
        loss, aux, gradients = super().gradients(objective, weights, batch)
        factor = self.scheduled(self.factor, batch)
        direction = gradients
        if self.normalize:
            direction = like(gradients, multiply(1.0 / (global_norm(gradients) + 1e-12), gradients))
        if self.scheme == "exact":
            product = objective.hessian_vector_product(weights, direction)
            return loss, aux, combine(1.0, gradients, factor, product)
        sign = 1.0 if self.scheme == "forward" else -1.0
        moved = move(weights, direction, sign * self.step)
        _, _, shifted = super().gradients(objective, moved, batch)
        share = sign * factor / self.step
        return loss, aux, combine(1.0 - share, gradients, share, shifted)
