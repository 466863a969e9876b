"""The distribution of weights is held, their places are free."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.numerics import upcast
from keras_regularize.registration import export
from keras_regularize.regularizers.anchors._reference import checked_array
from keras_regularize.validation import check_number


@export
class Wasserstein(Configured, keras.regularizers.Regularizer):
    r"""Keeps the distribution of a weight's entries that of a reference, usually of its initial values.

    $$\lambda \sum_{i=1}^{n} \left(w_{(i)} - w^0_{(i)}\right)^2$$

    over the entries of both in rising order: $n$ times the squared 2-Wasserstein distance of the two
    distributions of entries. Where `L2ToReference` holds every entry where it was, this one lets entries change
    places, and any permutation of the reference costs nothing. Against the loss of plasticity over a sequence
    of tasks; set it on a built model with `kr.regularizers.attach`.

    Args:
        reference: $w^0$, an array with as many entries as the weight. It is written into the config as
            numbers.
        factor: $\lambda \ge 0$.

    Input: a weight with as many entries as the reference. Output: a scalar in at least float32.

    Raises:
        ValueError: If an argument is out of range, or the weight has another number of entries.

    Cost: a sort of the weight.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    kr.regularizers.attach(model, lambda v: kr.regularizers.Wasserstein(v.value, 1e-2))
    ```

    Reference: Alex Lewandowski, Haruto Tanaka, Dale Schuurmans and Marlos C. Machado, *Directions of Curvature
    as an Explanation for Loss of Plasticity*, 2023, arXiv:2312.00246.
    """

    def __init__(self, reference: Any, factor: float = 1e-4):
        self.reference = checked_array("reference", reference)
        self.factor = check_number("factor", factor, minimum=0)
        self._rising = np.sort(self.reference, axis=None)

    def __call__(self, x: Any) -> Any:
        entries = ops.reshape(upcast(x), (-1,))
        if entries.shape[0] != self.reference.size:
            raise ValueError(
                f"`reference` must have as many entries as the weight, {entries.shape[0]}. "
                f"Received: reference of shape {self.reference.shape}"
            )
        rising = ops.take(entries, ops.argsort(ops.stop_gradient(entries)))
        reference = ops.convert_to_tensor(self._rising, dtype=entries.dtype)
        return self.factor * ops.sum(ops.square(rising - reference))
