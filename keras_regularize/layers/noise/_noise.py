"""What layers of noise have in common."""

from typing import Any

import keras

from keras_regularize.configuration import Configured
from keras_regularize.validation import check_integer


class Noise(Configured, keras.layers.Layer):
    """Noise in training that keeps shapes, dtypes and masks; a subclass defines `_perturb`."""

    def __init__(self, seed: int | None, **kwargs: Any):
        super().__init__(**kwargs)
        self.seed = check_integer("seed", seed, optional=True)
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True
        self.built = True

    def _check(self, inputs):
        """Raises for inputs that the layer cannot take, whether tensors or symbols."""
        if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(inputs.dtype)):
            raise ValueError(
                f"`{type(self).__name__}` needs inputs of a floating dtype. Received: {inputs.dtype}"
            )

    def _perturb(self, inputs):
        """The output in training."""
        raise NotImplementedError

    def _expected(self, inputs):
        """The output at inference."""
        return inputs

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        self._check(inputs)
        return self._perturb(inputs) if training else self._expected(inputs)

    def _uniform(self, shape, minimum=0.0, maximum=1.0):
        """Random numbers in float32, whatever the dtype of the layer: half precision has few of them."""
        return keras.random.uniform(
            shape, minimum, maximum, dtype="float32", seed=self.seed_generator
        )

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> Any:
        self._check(inputs)
        return keras.KerasTensor(inputs.shape, inputs.dtype)
