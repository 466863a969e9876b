"""What layers of self-tuning networks have in common."""

import math
from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured

#: Names of the weights by which a layer responds; the others are those of a plain one.
RESPONSE = ("response_kernel", "response_bias", "hyper_kernel")


class Responding(Configured, keras.layers.Layer):
    """An affine layer whose kernel and bias are affine in hyperparameters; a subclass defines `_linear`."""

    #: Ranks that the features may have, how they are called in messages, and whether their channels must be known.
    _ranks: range
    _layout: str
    _has_channels = True

    #: Of a subclass without arguments of that name.
    activation: Any = staticmethod(keras.activations.linear)
    use_bias = False

    def __init__(self, hyper_initializer: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.hyper_initializer = keras.initializers.get(hyper_initializer)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        features, hyper = self._checked(input_shape)
        *inputs, units = kernel_shape = self._kernel_shape(features)
        limit = self._limit(inputs)

        def weight(name, shape):
            # One for each weight: an initializer draws the same numbers again.
            initializer = keras.initializers.RandomUniform(-limit, limit)
            return self.add_weight(shape=shape, initializer=initializer, name=name)

        self.kernel = weight("kernel", kernel_shape)
        self.bias = weight("bias", (units,)) if self.use_bias else None
        self.response_kernel = weight("response_kernel", kernel_shape)
        self.response_bias = weight("response_bias", (units,)) if self.use_bias else None
        self.hyper_kernel = self.add_weight(
            shape=(hyper[-1], (1 + self.use_bias) * units),
            initializer=self.hyper_initializer or keras.initializers.RandomNormal(stddev=0.01),
            name="hyper_kernel",
        )

    def _checked(self, shapes):
        """The shapes of features and hyperparameters."""
        name = type(self).__name__
        if not isinstance(shapes, (list, tuple)) or len(shapes) != 2 or not _are_shapes(shapes):
            raise ValueError(
                f"`{name}` needs a list [features, hyperparameters]. Received: shape {shapes}"
            )
        features, hyper = map(tuple, shapes)
        unknown = self._has_channels and features[self._channels_axis()] is None
        if len(features) not in self._ranks or unknown:
            raise ValueError(
                f"`{name}` needs {self._layout}. Received: features of shape {features}"
            )
        if len(hyper) != 2 or hyper[-1] is None:
            raise ValueError(
                f"`{name}` needs hyperparameters (batch, hyperparameters), a row for each sample. "
                f"Received: hyperparameters of shape {hyper}"
            )
        return features, hyper

    def call(self, inputs: Any) -> Any:
        features, hyper = inputs
        self._checked([tuple(features.shape), tuple(hyper.shape)])
        scales = ops.matmul(hyper, self.hyper_kernel)
        outputs = self._linear(features, self.kernel)
        # A row for each sample, the same at all its positions.
        inner = (1,) * (len(outputs.shape) - 2)
        first = self._channels_axis() == 1
        units = self.kernel.shape[-1]
        place = (-1, units, *inner) if first else (-1, *inner, units)
        response = self._linear(features, self.response_kernel)
        outputs = outputs + response * ops.reshape(scales[:, :units], place)
        if self.use_bias:
            bias = self.bias + scales[:, units:] * self.response_bias
            outputs = outputs + ops.reshape(bias, place)
        return self.activation(outputs)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return previous_mask[0] if isinstance(previous_mask, (list, tuple)) else previous_mask

    def _channels_axis(self) -> int:
        return -1

    def _limit(self, inputs):
        """The largest weight at the start, for a kernel `(*inputs, units)`."""
        return 1.0 / math.sqrt(math.prod(inputs))

    def _kernel_shape(self, features):
        raise NotImplementedError

    def _linear(self, features, kernel):
        raise NotImplementedError


def _are_shapes(shapes):
    return all(isinstance(shape, (list, tuple)) for shape in shapes)
