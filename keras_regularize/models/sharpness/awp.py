"""Adversarial weight perturbation."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.models.sharpness._gradients import move
from keras_regularize.numerics import TINY, global_norm, upcast
from keras_regularize.registration import export
from keras_regularize.utils.variables import check_where, chooser, is_matrix
from keras_regularize.validation import check_integer, check_number


@export
class AWP(RegularizedModel):
    r"""Adversarial weight perturbation: moves every kernel uphill by a share of its own length.

    $$e_v = \gamma\,\|w_v\|_2\,\frac{\nabla_v L(w)}{\|\nabla_v L(w)\|_2 + 10^{-20}}$$

    for every variable $v$ of rank 2 or more (or those of `where`); biases and normalization weights stay. The
    step uses the gradient at $w + e$, on the same adversarial inputs. Meant around adversarial training, against
    robust overfitting: `AWP(AdversarialTraining(model, attack))`.

    Args:
        model: The model to train, usually another wrapper.
        gamma: Length of the perturbation relative to that of the kernel, at least 0; or a schedule. The
            authors use 0.01 around adversarial training, 0.005 around TRADES.
        warmup_steps: Number of steps that are plain at first, at least 0.
        where: Which variables are perturbed: the name of a variable, a list of names of variables or of layers
            on their path, or a function of the variable such as `kr.utils.AllBut`; `None` for all of rank 2 or
            more.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range or `model` is not a `keras.Model`.

    Cost: two forward-backward passes of the objective per step; the attack runs once.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    net = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    attack = kr.attacks.PGD(epsilon=0.1, step_size=0.03, steps=3)
    model = kr.models.AWP(kr.models.AdversarialTraining(net, attack), gamma=0.01)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(np.ones((8, 3)), np.zeros(8), verbose=0)
    ```

    Reference: Wu, Xia and Wang, *Adversarial Weight Perturbation Helps Robust Generalization*, NeurIPS 2020,
    arXiv:2004.05884. Differs from the authors' code in that regularizers in the model count in the direction
    of the perturbation.
    """

    def __init__(
        self,
        model: keras.Model,
        gamma: Any = 0.01,
        warmup_steps: int = 0,
        where: str | Sequence[str] | Callable[[keras.Variable], bool] | None = None,
        **kwargs: Any,
    ):
        super().__init__(model, **kwargs)
        self.gamma = check_number("gamma", gamma, minimum=0, schedule=True)
        self.warmup_steps = check_integer("warmup_steps", warmup_steps, minimum=0)
        self.where = check_where(where)

    def gradients(self, objective, weights, batch):
        loss, aux, gradients = super().gradients(objective, weights, batch)
        gamma = self.scheduled(self.gamma, batch)
        if self.warmup_steps:
            gamma = ops.where(batch.step < self.warmup_steps, 0.0, gamma)
        chosen, perturbed = chooser(self.where, is_matrix), []
        for w, g, variable in zip(weights, gradients, batch.variables):
            if chosen(variable):
                # In units of the largest entry: squares of tiny gradients would round to 0.
                unit = ops.maximum(ops.max(ops.abs(upcast(g))), TINY)
                norm = unit * global_norm([upcast(g) / unit])
                length = ops.cast(gamma, norm.dtype) * global_norm([w]) / (norm + 1e-20)
                (w,) = move([w], [g], length)
            perturbed.append(w)
        _, _, gradients = super().gradients(objective, perturbed, batch)
        return loss, aux, gradients
