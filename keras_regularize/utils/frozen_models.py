"""A model as a value in a config, with its weights: Keras saves those of the trained model alone."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np


def serialize_with_weights(model: keras.Model) -> dict[str, Any]:
    """A model and its weights as plain values."""
    file = io.BytesIO()
    np.savez(file, *model.get_weights())
    return {
        "model": keras.saving.serialize_keras_object(model),
        "weights": base64.b64encode(file.getvalue()).decode(),
    }


def deserialize_with_weights(entry: Mapping[str, Any], custom_objects: Any = None) -> keras.Model:
    """The model of `serialize_with_weights`."""
    model = keras.saving.deserialize_keras_object(entry["model"], custom_objects)
    with np.load(io.BytesIO(base64.b64decode(entry["weights"]))) as file:
        model.set_weights([file[name] for name in file.files])
    return model
