"""Flooding: the training loss is kept from falling below a level."""

from typing import Any

import keras

from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.numerics import safe_abs
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class Flooding(RegularizedModel):
    r"""Keeps the training loss near a level instead of letting it reach zero.

    $$|L - b| + b$$

    Below the level $b$ the step ascends, so the weights wander in a flat region of small loss. The batch's
    whole objective is flooded, weight regularizers included; the gradient at exactly $L = b$ is 0. A level
    that the loss never reaches changes nothing. On several replicas each floods the loss of its own part of
    the batch.

    Args:
        model: The model to train, or another wrapper.
        level: Flood level $b$, in units of the loss; or a schedule.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If `level` is no number or `model` is not a `keras.Model`.

    Cost: one forward-backward pass per step.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    net = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model = kr.models.Flooding(net, level=0.1)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(np.ones((8, 3)), np.zeros(8), verbose=0)
    ```

    Reference: Ishida, Yamane, Sakai, Niu and Sugiyama, *Do We Need Zero Training Loss After Achieving Zero
    Training Error?*, ICML 2020, arXiv:2002.08709.
    """

    def __init__(self, model: keras.Model, level: Any, **kwargs: Any):
        super().__init__(model, **kwargs)
        self.level = check_number("level", level, schedule=True)

    def objective(self, batch, forward):
        loss, values = super().objective(batch, forward)
        level = self.scheduled(self.level, batch)
        return safe_abs(loss - level) + level, values
