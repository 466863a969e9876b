"""Surrogate-gap guided sharpness-aware minimization."""

from typing import Any

import keras

from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.models.sharpness._gradients import climb, climb_adaptively, combine, dot
from keras_regularize.numerics import global_norm
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class GSAM(RegularizedModel):
    r"""Surrogate-gap guided SAM: also ascends the loss along what SAM's gradient leaves of it.

    With $g = \nabla L(w)$ and SAM's $s = \nabla L(w + \rho g / \|g\|)$, the step uses

    $$s - \alpha v, \qquad v = g - \frac{\langle g, s\rangle}{\|s\|}\,\frac{s}{\|s\| + 10^{-12}},$$

    $v$ being the part of $g$ orthogonal to $s$: the perturbed loss falls as with `SAM`, and its gap to the loss
    shrinks as well. Norms are joint over all variables. `alpha=0` is `SAM`. The authors schedule `rho` along
    with the learning rate.

    Args:
        model: The model to train, or another wrapper.
        rho: Length of the perturbation, in units of the weights, at least 0; or a schedule.
        alpha: Weight of the orthogonal part, a number; or a schedule.
        adaptive: Whether to perturb every weight in proportion to its size, as `ASAM` does with its default
            $\eta$; `rho` then wants to be about ten times as large. `alpha=0` is then `ASAM`.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range or `model` is not a `keras.Model`.

    Cost: two forward-backward passes per step.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    net = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model = kr.models.GSAM(net, rho=0.05, alpha=0.4)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(np.ones((8, 3)), np.zeros(8), verbose=0)
    ```

    Reference: Zhuang, Gong, Yuan, Cui, Adam, Dvornek, Tatikonda, Duncan and Liu, *Surrogate Gap Minimization
    Improves Sharpness-Aware Training*, ICLR 2022, arXiv:2203.08065.
    """

    def __init__(
        self,
        model: keras.Model,
        rho: Any = 0.05,
        alpha: Any = 0.4,
        adaptive: bool = False,
        **kwargs: Any,
    ):
        super().__init__(model, **kwargs)
        self.rho = check_number("rho", rho, minimum=0, schedule=True)
        self.alpha = check_number("alpha", alpha, schedule=True)
        self.adaptive = bool(adaptive)

    def gradients(self, objective, weights, batch):
        loss, aux, first = super().gradients(objective, weights, batch)
        rho = self.scheduled(self.rho, batch)
        if self.adaptive:
            moved = climb_adaptively(weights, first, batch.variables, rho)
        else:
            moved = climb(weights, first, rho)
        _, _, second = super().gradients(objective, moved, batch)
        norm = global_norm(second) + 1e-12
        along = dot(first, second) / (norm * norm)
        # The gradient minus alpha times the part of the first one that is orthogonal to it.
        alpha = self.scheduled(self.alpha, batch)
        return loss, aux, combine(1.0 + alpha * along, second, -alpha, first)
