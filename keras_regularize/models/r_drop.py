"""R-Drop: the networks that dropout draws shall agree."""

from typing import Any

import keras
from keras import ops

from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.numerics import kl_divergence
from keras_regularize.registration import export
from keras_regularize.scores import (
    class_log_probabilities,
    class_outputs,
    gives_logits,
    sample_mean,
)
from keras_regularize.validation import check_number


@export
class RDrop(RegularizedModel):
    r"""R-Drop: every batch is seen under two dropout masks, and the two predictions shall be the same.

    $$\tfrac12 \big(L_1 + L_2\big)
      + \frac\alpha{2B}\sum_i \Big[KL\big(p_1(x_i)\,\|\,p_2(x_i)\big) + KL\big(p_2(x_i)\,\|\,p_1(x_i)\big)\Big]$$

    with $L_1, L_2$ the compiled loss and $p_1, p_2$ the predictions in two passes, whose dropout masks are
    independent; the gradient flows through all of them. Dropout trains many networks of which the average
    predicts; the less they differ, the less is lost in that. A model that draws no random numbers gets its plain
    loss.

    The method adds to the compiled loss, which must be a classification loss of one output. Penalties of weights
    and activities count once (the mean of both passes), sample weights count for both terms, and positions that
    a mask leaves out for none. The first pass is that of the logged metrics and of batch statistics. A wrapper
    inside runs its objective in both passes: `RDrop(TRADES(model))`.

    Tips: take 1 to 5 for `alpha` in text, less than 1 for images and for fine-tuning large models; training
    takes more epochs than without.

    Args:
        model: The model with dropout to train, or another wrapper.
        alpha: Weight $\alpha$ of the divergence, at least 0; or a schedule.
        from_logits: Whether the model gives out logits; `None` asks the compiled loss, or without one the
            last layer.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range, the model has several outputs with a loss, or nothing says
            whether it gives out logits.

    Cost: two forward-backward passes.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    layers = [keras.layers.Dense(16, "relu"), keras.layers.Dropout(0.3), keras.layers.Dense(3)]
    model = kr.models.RDrop(keras.Sequential([keras.Input((4,)), *layers]), alpha=1.0)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.random.default_rng(0).random((8, 4))
    model.fit(x, np.arange(8) % 3, verbose=0)
    ```

    Reference: Liang, Wu, Li, Wang, Meng, Qin, Chen, Zhang and Liu, *R-Drop: Regularized Dropout for Neural
    Networks*, NeurIPS 2021, arXiv:2106.14448. The formula is that of the authors' published code; the paper adds
    the two losses where that takes their mean, so that its $\alpha$ is twice the one here. Differs from some of
    their scripts in taking the mean of the divergence over the batch, not the sum.
    """

    def __init__(
        self,
        model: keras.Model,
        alpha: Any = 1.0,
        from_logits: bool | None = None,
        **kwargs: Any,
    ):
        check_number("alpha", alpha, minimum=0, schedule=True)
        super().__init__(model, **kwargs)
        self.alpha = alpha
        self.from_logits = None if from_logits is None else bool(from_logits)

    def check_loss(self, model):
        super().check_loss(model)
        gives_logits(model)

    def objective(self, batch, forward):
        loss, values = super().objective(batch, forward)
        again = forward.redrawn()
        other, _ = super().objective(batch, again)
        forward.move_seeds(again)
        log_p, log_q = (
            class_log_probabilities(
                class_outputs(each.outputs_at(batch.x), forward), gives_logits(forward)
            )
            for each in (forward, again)
        )
        both = 0.5 * (kl_divergence(log_p, log_q) + kl_divergence(log_q, log_p))
        penalty = self.scheduled(self.alpha, batch) * sample_mean(forward, both, batch)
        return 0.5 * (loss + other) + ops.cast(penalty, loss.dtype), values
