"""What Keras makes of the value of an activity regularizer."""

from typing import Any

import keras
from keras import ops

#: Since 3.14 Keras divides it by the batch size.
DIVIDES = tuple(map(int, keras.__version__.split(".")[:2])) >= (3, 14)


def to_be_divided(total: Any, x: Any) -> Any:
    """A sum over the batch of `x`, as the value of which Keras makes the mean over the batch."""
    return total if DIVIDES else ops.divide_no_nan(total, ops.cast(ops.shape(x)[0], total.dtype))
