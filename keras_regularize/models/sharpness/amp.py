"""Adversarial model perturbation."""

from typing import Any

import keras
from keras import ops

from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.models.sharpness._gradients import combine, move, multiply
from keras_regularize.numerics import GUARD, global_norm
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
class AMP(RegularizedModel):
    r"""Adversarial model perturbation: descends at weights that were moved uphill within a ball.

    From $\delta = 0$, `inner_steps` times

    $$\delta \leftarrow \Pi_\epsilon\big(\delta + \zeta\,\nabla L(w + \delta)\big),$$

    then the gradient at $w + \delta$ for the step at $w$. $\Pi_\epsilon$ scales the perturbation of each
    variable down to length $\epsilon$ where it is longer. Unlike in `SAM` the ascent is not normalized: near a
    minimum the perturbation is small. With $\epsilon = \infty$ and one inner step it is
    `GradientRegularization(factor=ζ, step=ζ)`.

    Args:
        model: The model to train, or another wrapper.
        epsilon: Radius of the ball, in units of the weights, at least 0; or a schedule.
        inner_learning_rate: Step $\zeta$ of the ascent, at least 0.
        inner_steps: Number of ascent steps, at least 0.
        per_variable: One ball for each variable, as in the authors' code, whose values of `epsilon` assume
            it; `False` for one ball around all weights, as in the paper.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range or `model` is not a `keras.Model`.

    Cost: `1 + inner_steps` forward-backward passes per step.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    net = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model = kr.models.AMP(net, epsilon=0.5)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(np.ones((8, 3)), np.zeros(8), verbose=0)
    ```

    Reference: Zheng, Zhang and Mao, *Regularizing Neural Networks via Adversarial Model Perturbation*, CVPR
    2021, arXiv:2010.04925. Differs from the authors' trainer in leaving gradient clipping to the optimizer
    and in moving batch statistics once a step.
    """

    def __init__(
        self,
        model: keras.Model,
        epsilon: Any = 0.5,
        inner_learning_rate: float = 1.0,
        inner_steps: int = 1,
        per_variable: bool = True,
        **kwargs: Any,
    ):
        super().__init__(model, **kwargs)
        self.epsilon = check_number("epsilon", epsilon, minimum=0, schedule=True)
        self.inner_learning_rate = check_number(
            "inner_learning_rate", inner_learning_rate, minimum=0
        )
        self.inner_steps = check_integer("inner_steps", inner_steps, minimum=0)
        self.per_variable = per_variable

    def gradients(self, objective, weights, batch):
        loss, aux, gradients = super().gradients(objective, weights, batch)
        delta = None
        for _ in range(self.inner_steps):
            step = multiply(self.inner_learning_rate, gradients)
            delta = step if delta is None else combine(1.0, delta, 1.0, step)
            delta = self._project(delta, self.scheduled(self.epsilon, batch))
            _, _, gradients = super().gradients(objective, move(weights, delta), batch)
        return loss, aux, gradients

    def _project(self, delta, epsilon):
        balls = [[d] for d in delta] if self.per_variable else [delta]
        projected = []
        for ball in balls:
            norm = global_norm(ball)
            projected += multiply(ops.where(norm > epsilon, epsilon / (norm + GUARD), 1.0), ball)
        return projected
