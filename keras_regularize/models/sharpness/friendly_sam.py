"""Sharpness-aware minimization along the part of the gradient that is the batch's own."""

from typing import Any

import keras
from keras import ops

from keras_regularize.models._slots import SlottedModel
from keras_regularize.models.sharpness._gradients import climb, combine
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class FriendlySAM(SlottedModel):
    r"""SAM that perturbs along the noise of the batch's gradient, without the part all batches have in common.

    With $g = \nabla L(w)$ on the batch and a running mean $m$ of such gradients, which stands for the gradient of
    the whole training set,

    $$g_\mathrm{F} = \nabla L\Big(w + \rho\,\frac{d}{\|d\|_2 + 10^{-12}}\Big), \qquad d = g - \sigma m, \qquad
    m \leftarrow \lambda m + (1 - \lambda)\,g,$$

    and the optimizer steps at $w$ with $g_\mathrm{F}$. $d$ takes $m$ as it was before the batch. $m$ begins as the
    first gradient of its weight, and where it is still missing $d = g$: the first step is that of `SAM`. The norm
    is joint over all variables. `sigma=0` is `SAM`. On all of the data, without noise and with a small learning
    rate, little but the direction of rounding is left of $d$.

    Tip: the authors train with `rho` from 0.1 to 0.4 and `momentum` from 0.6 to 0.95.

    Args:
        model: The model to train, or another wrapper.
        rho: Length $\rho$ of the perturbation, in units of the weights, at least 0; or a schedule.
        sigma: Share $\sigma$ of the mean gradient that is taken out, a number; or a schedule.
        momentum: Decay $\lambda$ of the mean, from 0 to 1.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range or `model` is not a `keras.Model`.

    Cost: two forward-backward passes per step, and a variable as large as the weights.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    net = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model = kr.models.FriendlySAM(net, rho=0.2, momentum=0.6)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(np.ones((8, 3)), np.zeros(8), verbose=0)
    ```

    Reference: Tao Li, Pan Zhou, Zhengbao He, Xinwen Cheng and Xiaolin Huang, *Friendly Sharpness-Aware
    Minimization*, CVPR 2024, arXiv:2403.12350. The order of the steps and the start of $m$ are those of the
    authors' code.
    """

    slots_name = "mean_gradient"

    def __init__(
        self,
        model: keras.Model,
        rho: Any = 0.05,
        sigma: Any = 1.0,
        momentum: float = 0.9,
        **kwargs: Any,
    ):
        super().__init__(model, **kwargs)
        self.rho = check_number("rho", rho, minimum=0, schedule=True)
        self.sigma = check_number("sigma", sigma, schedule=True)
        self.momentum = check_number("momentum", momentum, minimum=0, maximum=1)

    def gradients(self, objective, weights, batch):
        loss, aux, first = super().gradients(objective, weights, batch)
        mean = self.slots.read(batch.variables)
        direction = combine(1.0, first, -self.scheduled(self.sigma, batch), mean)
        moved = climb(weights, direction, self.scheduled(self.rho, batch))
        _, _, gradients = super().gradients(objective, moved, batch)
        updated = combine(self.momentum, mean, 1.0 - self.momentum, first)
        started = [ops.any(m != 0) for m in mean]
        updated = [ops.where(s, u, g) for s, u, g in zip(started, updated, first)]
        return loss, self.kept(aux, updated), gradients
