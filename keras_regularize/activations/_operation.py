"""What activations that are saved with arguments have in common."""

from typing import Any

import keras

from keras_regularize.configuration import Configured


class ActivationOperation(Configured, keras.Operation):
    """An activation as an object, whose arguments are saved with the layer that has it."""

    def compute_output_spec(self, x: Any) -> keras.KerasTensor:
        floating = keras.backend.is_float_dtype(x.dtype)
        return keras.KerasTensor(x.shape, x.dtype if floating else keras.config.floatx())
