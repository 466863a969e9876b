"""Sharpness-aware minimization with the second pass only every few steps."""

from typing import Any

import keras
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.models._slots import SlottedModel
from keras_regularize.models.sharpness._gradients import (
    climb,
    climb_adaptively,
    combine,
    dot,
    like,
    multiply,
)
from keras_regularize.numerics import global_norm
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number

# Below this share of the gradient the orthogonal part is rounding, not a direction.
_RESOLUTION = 1e-5


@export
class LookSAM(SlottedModel):
    r"""SAM at a fraction of its cost: takes the second gradient only every few steps, and reuses what it added.

    With $g = \nabla L(w)$, every `period`-th update uses SAM's gradient $s = \nabla L(w + \rho g / \|g\|)$ and
    remembers the direction that it adds to $g$,

    $$v = \frac{u}{\|u\|}, \qquad u = s - \frac{\langle g, s\rangle}{\|g\|^2 + 10^{-12}}\,g,$$

    which changes more slowly than $g$. The updates in between use $g + \alpha\|g\|\,v$. Norms are joint over all
    variables. `period=1` is `SAM`. Where $s$ is parallel to $g$ up to rounding, as for `rho=0`, $v = 0$.

    Tip: a new optimizer, from `compile` or after `load_weights`, begins with an update of two passes.

    Args:
        model: The model to train, or another wrapper whose `gradients` keeps no state.
        rho: Length $\rho$ of the perturbation, in units of the weights, at least 0; or a schedule.
        period: Number $k$ of updates from one second gradient to the next, at least 1. Counted by the
            optimizer, which counts accumulated gradients as one update.
        alpha: Weight $\alpha$ of the remembered direction, relative to the length of the gradient, at least
            0; or a schedule.
        adaptive: Whether to perturb every weight in proportion to its size, as `ASAM` does with its default
            $\eta$; `rho` then wants to be about ten times as large. `period=1` is `ASAM`.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range or `model` is not a `keras.Model`.

    Cost: one forward-backward pass per step, and a second one every `period` steps; a variable as large as
    the weights.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    net = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model = kr.models.LookSAM(net, rho=0.05, period=5)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(np.ones((8, 3)), np.zeros(8), verbose=0)
    ```

    Reference: Liu, Mai, Chen, Hsieh and You, *Towards Efficient and Scalable Sharpness-Aware Minimization*,
    CVPR 2022, arXiv:2203.02714. Follows the implementation that comes with the paper of `MomentumSAM`, with
    joint norms; the guard against directions made of rounding is ours.
    """

    slots_name = "direction"

    def __init__(
        self,
        model: keras.Model,
        rho: Any = 0.05,
        period: int = 5,
        alpha: Any = 0.7,
        adaptive: bool = False,
        **kwargs: Any,
    ):
        super().__init__(model, **kwargs)
        self.rho = check_number("rho", rho, minimum=0, schedule=True)
        self.period = check_integer("period", period, minimum=1)
        self.alpha = check_number("alpha", alpha, minimum=0, schedule=True)
        self.adaptive = bool(adaptive)

    def gradients(self, objective, weights, batch):
        loss, aux, first = super().gradients(objective, weights, batch)
        norm = global_norm(first)
        looks = batch.step % self.period == 0
        # The replicas of TensorFlow cannot meet inside of a branch.
        together = backend.num_replicas() == 1
        query, inner = super().gradients, objective if together else objective.local()

        def look():
            rho = self.scheduled(self.rho, batch)
            if self.adaptive:
                moved = climb_adaptively(weights, first, batch.variables, rho)
            else:
                moved = climb(weights, first, rho)
            return query(inner, moved, batch)[2]

        second = ops.cond(looks, backend.in_branch(look), lambda: first)
        if not together:
            second = backend.reduce_mean_over_replicas(second)
        remembered = self.slots.read(batch.variables)

        def remember():
            along = dot(first, second) / (norm * norm + 1e-12)
            added = combine(1.0, second, -along, first)
            length = global_norm(added)
            resolved = length > _RESOLUTION * global_norm(second)
            scale = ops.where(resolved, 1.0 / ops.where(resolved, length, 1.0), 0.0)
            return second, like(remembered, multiply(scale, added))

        def reuse():
            share = self.scheduled(self.alpha, batch) * norm
            return combine(1.0, first, share, remembered), remembered

        gradients, direction = ops.cond(looks, remember, reuse)
        return loss, self.kept(aux, direction), gradients
