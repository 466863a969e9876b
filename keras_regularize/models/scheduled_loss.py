"""A second loss, whose weight changes over training."""

from typing import Any

import keras
from keras import ops

from keras_regularize.autodiff.compiled_losses import (
    CONTAINERS,
    OutputLoss,
    weighted_sample_losses,
)
from keras_regularize.autodiff.functional import resolve_weights
from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class ScheduledLoss(RegularizedModel):
    r"""Adds a loss to the compiled one, with weights that follow schedules over the steps of training.

    With the compiled loss $L$ and the other one $\ell$ of the same labels and predictions, step $t$ minimizes

    $$\beta_t\, L + \lambda_t\, \ell.$$

    `losses.WeightedSum` has weights that stay; `losses.Boundary` is meant to grow in while the loss of an overlap
    leaves. A variable of a loss cannot do so, as a compiled step may hold on to its first value. Sample weights
    and masks act on both losses; `evaluate` measures the compiled one.

    Args:
        model: The model to train, or another wrapper; of a single output.
        added_loss: $\ell$: a loss, a function, or a name of Keras' own, with one value per sample or position. Its
            own reduction does not act; it is averaged as Keras averages a compiled loss.
        factor: $\lambda$, a number; or a schedule.
        compiled_factor: $\beta$, a number; or a schedule. Penalties of weights and layers are not multiplied.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If a factor is no number, `added_loss` is no loss or gives a scalar, labels are missing, or the
            model has several outputs.

    Cost: that of the loss.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    net = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3, padding="same")])
    rising = keras.optimizers.schedules.PolynomialDecay(0.01, decay_steps=1000, end_learning_rate=0.99)
    falling = keras.optimizers.schedules.PolynomialDecay(0.99, decay_steps=1000, end_learning_rate=0.01)
    model = kr.models.ScheduledLoss(net, kr.losses.Boundary(from_logits=True), rising, falling)
    model.compile("adam", kr.losses.GeneralizedDice(from_logits=True))
    model.fit(np.ones((4, 8, 8, 1)), np.arange(256).reshape(4, 8, 8) % 2, verbose=0)
    ```

    Reference: Hoel Kervadec and others, *Boundary loss for highly unbalanced segmentation*, Medical Image Analysis
    2021, arXiv:1812.07032.
    """

    def __init__(
        self,
        model: keras.Model,
        added_loss: Any,
        factor: Any = 1.0,
        compiled_factor: Any = 1.0,
        **kwargs: Any,
    ):
        super().__init__(model, **kwargs)
        self.added_loss = keras.losses.get(added_loss)
        if self.added_loss is None:
            raise ValueError(
                "`added_loss` must be a loss, its name or a function. "
                f"Received: added_loss={added_loss!r}"
            )
        self.factor = check_number("factor", factor, schedule=True)
        self.compiled_factor = check_number("compiled_factor", compiled_factor, schedule=True)

    def check_data(self, x, y):
        super().check_data(x, y)
        if y is None:
            raise ValueError("`ScheduledLoss` needs labels `y`. Received: y=None")

    def objective(self, batch, forward):
        weight = batch.loss_weight * self.scheduled(self.compiled_factor, batch)
        loss, values = super().objective(batch.replace(loss_weight=weight), forward)
        outputs = forward.outputs_at(batch.x)
        if isinstance(outputs, CONTAINERS):
            raise ValueError(
                "`ScheduledLoss` needs a model of a single output. "
                f"Received: outputs in a {type(outputs).__name__}"
            )
        y, weights = forward.model.mask_unlabelled(
            batch.y, outputs, resolve_weights(batch, outputs), rescale=True
        )
        entry = OutputLoss(self.added_loss, None, y, outputs, weights)
        losses, weights = weighted_sample_losses([entry])
        factor = batch.loss_weight * self.scheduled(self.factor, batch)
        return loss + ops.cast(factor * ops.mean(losses * weights), loss.dtype), values
