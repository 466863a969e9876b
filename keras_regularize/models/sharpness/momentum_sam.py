"""Sharpness-aware minimization along the momentum, at the cost of plain training."""

from typing import Any

import keras

from keras_regularize.models._slots import SlottedModel
from keras_regularize.models.sharpness._gradients import climb, combine
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class MomentumSAM(SlottedModel):
    r"""SAM with one pass per step: perturbs the weights along a running sum of gradients instead of the gradient.

    $$g = \nabla L\Big(w - \rho\,\frac{v}{\|v\|_2 + 10^{-12}}\Big), \qquad v \leftarrow \mu v + g,$$

    and the optimizer steps at $w$ with $g$. Note the minus: the perturbation goes where the momentum is going,
    where the loss is high across the valley. The norm is joint over all variables. The first step is plain,
    and so is every one for `rho=0`. $v$ is the method's own, whatever the optimizer does.

    The logged loss and metrics are those of the one pass, at the *perturbed* weights: for a large `rho` they are
    worse than the model's own. `evaluate` has the latter.

    Tip: `rho` wants to be several times that of `SAM`; the authors take 3 for residual networks and vision
    transformers.

    Args:
        model: The model to train, or another wrapper.
        rho: Length $\rho$ of the perturbation, in units of the weights, at least 0; or a schedule.
        momentum: Decay $\mu$ of the running sum, from 0 to 1; usually that of the optimizer.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range or `model` is not a `keras.Model`.

    Cost: one forward-backward pass per step, and a variable as large as the weights, which is read and written
    whole: with two embeddings of 100,000 × 32 and little else, a step takes 1.2 (PyTorch) to 1.5 times
    (TensorFlow) the processor time of plain Adam, and 4.1 or 2.5 times that of SGD.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    net = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model = kr.models.MomentumSAM(net, rho=0.3)
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(np.ones((8, 3)), np.zeros(8), verbose=0)
    ```

    Reference: Becker, Altrock and Risse, *Momentum-SAM: Sharpness Aware Minimization without Computational
    Overhead*, 2024, arXiv:2401.12033. Differs from the authors' code, which trains the perturbed weights and
    moves them back in the end, in that the weights are never moved.
    """

    slots_name = "momentum"

    def __init__(self, model: keras.Model, rho: Any = 0.3, momentum: float = 0.9, **kwargs: Any):
        super().__init__(model, **kwargs)
        self.rho = check_number("rho", rho, minimum=0, schedule=True)
        self.momentum = check_number("momentum", momentum, minimum=0, maximum=1)

    def gradients(self, objective, weights, batch):
        velocity = self.slots.read(batch.variables)
        moved = climb(weights, velocity, -self.scheduled(self.rho, batch))
        loss, aux, gradients = super().gradients(objective, moved, batch)
        updated = combine(self.momentum, velocity, 1.0, gradients)
        return loss, self.kept(aux, updated), gradients
