"""Penalties on many weights at once."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_regularize._export import export
from keras_regularize._validation import check_number
from keras_regularize.models.regularized_model import RegularizedModel


@export
class WeightPenalty(RegularizedModel):
    r"""Adds a penalty on all chosen weights jointly to the loss.

    $$L + \lambda\,P(\{w_v\})$$

    Keras calls a regularizer once per variable and fixes it when the layer is made. This wrapper is for
    penalties that look at several variables together, for layers without a `*_regularizer` argument, and for
    a weight $\lambda$ that changes over training.

    Args:
        model: The model to train, or another wrapper.
        penalty: Function of the list of chosen weights (tensors) that returns a scalar, for example
            `lambda kernels: sum(map(regularizer, kernels))`. A `keras.regularizers.Regularizer` is applied
            to each weight and summed. Saving needs an object or function registered with Keras.
        factor: Weight $\lambda$, a number; or a schedule.
        where: Name of the variables to penalize, `"kernel"` by default, a function of the variable that
            says whether to, or `None` for all trainable ones.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If `penalty` is not callable, or no variable is chosen.

    Cost: the penalty's own forward and backward pass at every gradient query.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
    model = kr.models.WeightPenalty(net, keras.regularizers.L2(1.0), factor=0.01)
    model.compile("sgd", "mse")
    model.fit(np.ones((8, 4)), np.zeros((8, 1)), verbose=0)
    ```

    Reference: None; the mechanism for penalties over whole models.
    """

    def __init__(
        self,
        model: keras.Model,
        penalty: Callable[[list[Any]], Any],
        factor: Any = 1.0,
        where: str | Callable[[keras.Variable], bool] | None = "kernel",
        **kwargs: Any,
    ):
        if not callable(penalty):
            raise ValueError(
                "`penalty` must be a function of a list of weights, or a regularizer. "
                f"Received: penalty={penalty!r}"
            )
        check_number("factor", factor, schedule=True)
        super().__init__(model, **kwargs)
        self.penalty = penalty
        self.factor = factor
        self.where = where

    def objective(self, batch, forward):
        loss, values = super().objective(batch, forward)
        chosen = [forward.weight(v) for v in batch.variables if self._chooses(v)]
        if not chosen:
            raise ValueError(
                f"No trainable variable matches `where={self.where!r}`. "
                f"The model has {sorted({v.name for v in batch.variables})}"
            )
        if isinstance(self.penalty, keras.regularizers.Regularizer):
            penalty = sum(self.penalty(w) for w in chosen)
        else:
            penalty = self.penalty(chosen)
        return loss + self.scheduled(self.factor, batch) * ops.cast(penalty, loss.dtype), values

    def _chooses(self, variable):
        if self.where is None:
            return True
        return self.where(variable) if callable(self.where) else variable.name == self.where

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "penalty": serialize(self.penalty),
            "factor": serialize(self.factor),
            "where": serialize(self.where),
        }
