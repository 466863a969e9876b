"""Learning single responses from the means of bags."""

from typing import Any

import keras
from keras import ops

from keras_regularize.losses.loss import Loss
from keras_regularize.numerics import mean, upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_number, compatible


@export
class AggregateResponse(Loss):
    r"""Learns predictions for single samples from the mean response of each bag of them.

    For privacy or for want of better data only the mean $\bar y$ of a bag of $k$ samples may be known. With
    predictions $f_i$ of its samples, their mean $\bar f$ and a loss $l$, a bag contributes

    $$(1 - \rho)\, l(\bar y, \bar f) + \rho\, \frac1k \sum_i l(\bar y, f_i).$$

    $\rho = 0$ compares means alone (bag level), $\rho = 1$ takes $\bar y$ for everyone's response (instance
    level). For squared error it equals $(\bar y - \bar f)^2 + \rho \operatorname{Var}_i(f_i)$: $\rho$ is the
    weight of a penalty on the spread within bags, and something between is usually best, the more of it the
    larger the bags.

    Args:
        interpolation: $\rho$ in `[0, 1]`.
        loss: $l$: the name of a Keras loss, a function `(y_true, y_pred)` that averages over the last axis, or a
            `keras.losses.Loss`, such as `keras.losses.BinaryCrossentropy(from_logits=True)`. Bag level losses of
            logits see the mean logit.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Mean responses `(bags,)` or `(bags, 1)`.
        y_pred: Predictions of the samples, `(bags, bag_size)` or `(bags, bag_size, 1)`; a model of single samples
            gives them by `keras.layers.TimeDistributed`.

    Returns:
        With `reduction="none"` one value per bag `(bags,)`, else a scalar.

    Raises:
        ValueError: If `interpolation` is outside `[0, 1]`, or if the shapes do not fit.

    Cost: two evaluations of the loss.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(16, 4, 8)), np.random.normal(size=(16, 4))  # bags of four
    model = keras.Sequential([keras.layers.TimeDistributed(keras.layers.Dense(1))])
    model.compile("adam", loss=kr.losses.AggregateResponse(0.5))
    model.fit(x, y.mean(axis=1), verbose=0)
    ```

    Reference: Adel Javanmard, Lin Chen, Vahab Mirrokni, Ashwinkumar Badanidiyuru and Gang Fu, *Learning from
    Aggregate responses: Instance Level versus Bag Level Loss Functions*, ICLR 2024, arXiv:2401.11081.
    """

    def __init__(
        self,
        interpolation: float = 0.5,
        loss: Any = "mse",
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "aggregate_response",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.interpolation = check_number("interpolation", interpolation, minimum=0, maximum=1)
        self.loss = loss
        found = keras.losses.get(loss)
        self._values = found.call if isinstance(found, keras.losses.Loss) else found
        if not callable(self._values):
            raise ValueError(f"`loss` must be a loss of Keras. Received: loss={loss!r}")

    def call(self, y_true, y_pred):
        predictions = upcast(y_pred)
        if len(predictions.shape) == 3 and predictions.shape[-1] == 1:
            predictions = ops.squeeze(predictions, axis=-1)
        response = ops.cast(ops.convert_to_tensor(y_true), predictions.dtype)
        if len(response.shape) == 1:
            response = ops.expand_dims(response, -1)
        if len(predictions.shape) != 2 or not compatible(response.shape, (predictions.shape[0], 1)):
            raise ValueError(
                "Expected mean responses (bags,) or (bags, 1) and predictions (bags, bag_size) or (bags, "
                f"bag_size, 1). Received: y_true.shape={tuple(y_true.shape)}, "
                f"y_pred.shape={tuple(y_pred.shape)}"
            )
        bag = self._values(response, mean(predictions, axis=-1, keepdims=True))
        targets = ops.expand_dims(response * ops.ones_like(predictions), -1)
        instances = self._values(targets, ops.expand_dims(predictions, -1))
        rho = self.interpolation
        return (1.0 - rho) * bag + rho * mean(instances, axis=-1)
