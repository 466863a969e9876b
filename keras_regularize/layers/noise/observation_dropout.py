"""Observation dropout: hides observed values, so that a model learns to do without them."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_regularize.layers.noise._noise import Noise
from keras_regularize.registration import export
from keras_regularize.validation import check_numbers, compatible


@export
class ObservationDropout(Noise):
    r"""Hides random observed values from a model of data with missing ones, as further missing values.

    It takes `[values, mask]` and returns both. In training every entry that the mask $s$ marks as observed stays
    so with probability $1 - \text{rate}$, independently of all others,

    $$m_j = s_j\, b_j, \quad b_j \sim \operatorname{Bernoulli}(1 - \text{rate}), \qquad
      x'_j = \begin{cases} 0 & s_j \ne 0,\ b_j = 0 \\ x_j & \text{else,} \end{cases}$$

    without rescaling: a hidden value looks like a missing one, which the model inside has to fill in or to do
    without. Nothing else changes: entries that are missing already keep their values. At inference both pass
    unchanged. Fill missing values with 0 after standardization, as hidden ones are.

    The paper uses it to make a classifier work with imputed values: a bound such as
    `kr.generative.supnotmiwae_loss` is else maximized by a classifier that looks at observed values alone. The
    log-probability of what was drawn is `sum(m * log(1 - rate) + (s - m) * log(rate))`.

    Args:
        rate: Probability that an observed value is hidden, in [0, 1), or a list with one per feature, the last
            axis. The paper uses 0.4 for records of intensive care and 0.3 for human activities.
        seed: Integer seed of the draws, or None.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: a list of values `(batch, …, features)`, floats, and of a mask of the same shape and of any dtype, not 0
    where a value is observed. Output: a list of the same two shapes and dtypes.

    Raises:
        ValueError: If a rate is out of range, if the inputs are no such list, or if the shapes or the number of
            rates do not fit.

    Cost: one draw per entry, a comparison and two selections.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    values, mask = keras.Input((8, 3)), keras.Input((8, 3), dtype="bool")
    seen, shown = kr.layers.ObservationDropout(0.4)([values, mask])
    x = keras.layers.Concatenate()([seen, keras.ops.cast(shown, "float32")])
    model = keras.Model([values, mask], keras.layers.GRU(4)(x))
    model([np.ones((2, 8, 3)), np.ones((2, 8, 3), bool)], training=True)
    ```

    Reference: SeungHyun Kim, Hyunsu Kim, EungGu Yun, Hwangrae Lee, Jaehun Lee and Juho Lee, *Probabilistic
    Imputation for Time-series Classification with Missing Data*, ICML 2023, arXiv:2308.06738.
    """

    def __init__(self, rate: float | Sequence[float], seed: int | None = None, **kwargs: Any):
        super().__init__(seed=seed, **kwargs)
        self.rate = check_numbers("rate", rate, minimum=0, below=1)

    def _check(self, inputs):
        if not isinstance(inputs, (list, tuple)) or len(inputs) != 2:
            raise ValueError(
                "`ObservationDropout` needs a list [values, mask]. "
                f"Received: {type(inputs).__name__} {getattr(inputs, 'shape', '')}".rstrip()
            )
        values, mask = inputs
        super()._check(values)
        if not compatible(mask.shape, values.shape):
            raise ValueError(
                "`ObservationDropout` needs values and a mask of the same shape. "
                f"Received: values.shape={tuple(values.shape)}, mask.shape={tuple(mask.shape)}"
            )
        if isinstance(self.rate, list) and not compatible(values.shape[-1:], (len(self.rate),)):
            raise ValueError(
                "`rate` must be a number or a list of one per feature, the last axis. "
                f"Received: rate={self.rate}, values.shape={tuple(values.shape)}"
            )

    def _perturb(self, inputs):
        values, mask = inputs
        return self._hidden(values, mask, self._uniform(ops.shape(values)))

    def _expected(self, inputs):
        return list(inputs)

    def _hidden(self, values, mask, drawn):
        """Both without the entries whose random number is below the rate."""
        rate = ops.convert_to_tensor(self.rate, dtype="float32")
        hidden = ops.logical_and(ops.not_equal(mask, 0), drawn < rate)
        return [ops.where(hidden, ops.zeros_like(x), x) for x in (values, mask)]

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> Any:
        self._check(inputs)
        return [keras.KerasTensor(x.shape, x.dtype) for x in inputs]
