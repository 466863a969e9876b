"""What networks that compare samples may be given."""

from typing import Any

import keras
from keras import tree

from keras_regularize.validation import compatible


def check_alike(target: Any, generated: Any) -> None:
    """Raises for targets of another shape than what is generated."""
    if not compatible(tuple(target.shape[1:]), tuple(generated.shape[1:])):
        raise ValueError(
            "Expected samples of the shape that the generator gives out, "
            f"{tuple(generated.shape[1:])}. Received: {tuple(target.shape[1:])}"
        )


def check_samples(model: Any, name: str, samples: Any) -> None:
    """Raises for samples that are no floating tensor, or not of the shape that the generator gives out."""
    if tree.is_nested(samples) or samples is None:
        raise ValueError(f"Expected `{name}` to be one tensor. Received: {name}={samples!r}")
    if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(samples.dtype)):
        raise ValueError(
            f"`{type(model).__name__}` compares samples with generated ones: expected a floating `{name}`, "
            f"scaled as they are. Received dtype {keras.backend.standardize_dtype(samples.dtype)}"
        )
