"""LegendreLink: learns which link function turns scores into class probabilities."""

from typing import Any, NamedTuple

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.numerics import upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_integer

# Uniform within one over the square root of the inputs.
UNIFORM = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")


@export
class LegendreLink(Configured, keras.layers.Layer):
    r"""A learnt invertible link from scores to class log-probabilities, whose loss is proper for all its weights.

    Softmax fixes how a score becomes a probability. This layer learns it, as a gradient of convex functions, which
    is monotone and invertible: the negative log-likelihood then is a proper loss of the scores. Of $K - 1$ scores
    $x$, in blocks

    $$x \leftarrow \nabla F(x), \qquad F(x) = \operatorname{sp}(w_1)\, g(x) + \operatorname{sp}(w_0)\, \tfrac12
    \|x\|^2,$$

    sp being softplus and $g$ a small network that is convex in $x$; then a score of 0 for the last class is
    appended and the log-softmax taken. For two classes it is an increasing function of one score.

    Put it behind a `Dense(K - 1)` and train with cross-entropy `from_logits=True`, for which log-probabilities are
    logits. The authors use Adam with a rate of 0.01 and an L2 penalty of all weights (`keras.optimizers.AdamW` is
    close to that), and find that it pays with many classes.

    Args:
        hidden_units: Width of the convex networks, even; the paper's experiments have 2.
        depth: Their number of layers, at least 1, the linear output not counted.
        blocks: Number of blocks, at least 1.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: scores `(…, K - 1)`, the last axis known. Output: log-probabilities `(…, K)`.

    Raises:
        ValueError: If an argument is out of range; if the last axis is unknown.

    Cost: the gradient is computed in the forward pass, so a block costs about what a training step of its network
    would: four matrix products per layer, of `hidden_units` and `K - 1` columns.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4), kr.layers.LegendreLink()])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))  # Five classes.
    ```

    Reference: Kevin Lam, Christian Walder, Spiridon Penev and Richard Nock, *LegendreTron: Uprising Proper
    Multiclass Loss Learning*, ICML 2023, arXiv:2301.11695. The log-softmax is taken over all K scores, where the
    authors' code overflows at very negative ones; biases start at 0.
    """

    def __init__(self, hidden_units: int = 4, depth: int = 4, blocks: int = 2, **kwargs: Any):
        super().__init__(**kwargs)
        self.hidden_units = check_integer("hidden_units", hidden_units, minimum=2)
        if hidden_units % 2:
            raise ValueError(f"`hidden_units` must be even. Received: hidden_units={hidden_units}")
        self.depth = check_integer("depth", depth, minimum=1)
        self.blocks = check_integer("blocks", blocks, minimum=1)

    def build(self, input_shape: Any) -> None:
        if input_shape[-1] is None:
            raise ValueError(
                "`LegendreLink` needs a known number of scores, the last axis. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        self.gradients = [
            _ConvexGradient(self.hidden_units, self.depth, name=f"block_{i}", dtype="float32")
            for i in range(self.blocks)
        ]
        for gradient in self.gradients:
            gradient.build(input_shape)

    def call(self, inputs: Any) -> Any:
        x = upcast(inputs)
        for gradient in self.gradients:
            x = gradient(x)
        x = ops.concatenate([x, ops.zeros_like(x[..., :1])], axis=-1)
        return ops.cast(ops.log_softmax(x, axis=-1), self.compute_dtype)

    def adapt(self, scores: Any) -> None:
        """Normalizes the pre-activations of the convex networks on a batch of scores, as activation norm does.

        The authors' code does so on the first batch; it is not needed.

        Args:
            scores: Inputs of the layer, `(batch, K - 1)`; they build it if need be.
        """
        scores = upcast(scores)
        if not self.built:
            self(scores)
        for gradient in self.gradients:
            gradient.adapt(scores)
            scores = gradient(scores)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], input_shape[-1] + 1)


class _Hidden(NamedTuple):
    """Weights of a hidden layer: from the layer before, and twice from the inputs."""

    kernel: Any
    bias: Any
    input_kernel: Any
    input_bias: Any
    skip_kernel: Any
    skip_bias: Any
    shift: Any
    log_scale: Any


class _ConvexGradient(keras.layers.Layer):
    """The gradient of an input-convex network plus that of a quadratic function, `(…, d)` to `(…, d)`."""

    def __init__(self, hidden_units, depth, **kwargs):
        super().__init__(**kwargs)
        self.units = hidden_units
        self.depth = depth

    def build(self, input_shape):
        size, units = input_shape[-1], self.units
        half, normal = units // 2, keras.initializers.RandomNormal(0.0, 1.0)
        self.w1 = self._add("w1", normal, 1)
        self.w0 = self._add("w0", normal, 1)
        self.kernel = self._add("kernel", UNIFORM, size, units)
        self.bias = self._add("bias", "zeros", units)
        self.hidden = []
        for i in range(1, self.depth):
            hidden = _Hidden(
                self._add(f"kernel_{i}", UNIFORM, units, half),
                self._add(f"bias_{i}", "zeros", half),
                self._add(f"input_kernel_{i}", UNIFORM, size, half),
                self._add(f"input_bias_{i}", "zeros", half),
                self._add(f"skip_kernel_{i}", UNIFORM, size, half),
                self._add(f"skip_bias_{i}", "zeros", half),
                self._add(f"shift_{i}", "zeros", half),
                self._add(f"log_scale_{i}", "zeros", half),
            )
            self.hidden.append(hidden)
        self.last_kernel = self._add("last_kernel", UNIFORM, units, 1)
        self.last_input_kernel = self._add("last_input_kernel", UNIFORM, size, 1)
        self.last_log_scale = self._add("last_log_scale", "zeros", 1)

    def _add(self, name, initializer, *shape):
        return self.add_weight(shape=shape, initializer=initializer, name=name)

    def call(self, x):
        slopes = []  # Of the activations of every layer, on the way up.
        z = ops.matmul(x, self.kernel) + self.bias
        first, h = ops.sigmoid(z), ops.softplus(z)
        for layer in self.hidden:
            scale = _scale(layer.log_scale)
            z = (self._pre_activation(layer, h, x) + layer.shift) * scale
            skip = ops.matmul(x, layer.skip_kernel) + layer.skip_bias
            slopes.append((ops.sigmoid(z) * scale, ops.sigmoid(skip)))
            h = ops.concatenate([ops.softplus(z), ops.softplus(skip)], axis=-1)

        # The chain rule from the output, whose slope is constant, down to the inputs.
        scale, half = _scale(self.last_log_scale), self.units // 2
        gradient = scale * ops.transpose(self.last_input_kernel)[0]
        g = scale * ops.transpose(_mean_of(self.last_kernel))[0]
        for layer, (slope, skip_slope) in zip(reversed(self.hidden), reversed(slopes)):
            own, skip = slope * g[..., :half], skip_slope * g[..., half:]
            gradient = gradient + ops.matmul(own, ops.transpose(layer.input_kernel))
            gradient = gradient + ops.matmul(skip, ops.transpose(layer.skip_kernel))
            g = ops.matmul(own, ops.transpose(_mean_of(layer.kernel)))
        gradient = gradient + ops.matmul(first * g, ops.transpose(self.kernel))
        return ops.softplus(self.w1) * gradient + ops.softplus(self.w0) * x

    def _pre_activation(self, layer, h, x):
        return (
            ops.matmul(h, _mean_of(layer.kernel))
            + layer.bias / self.units
            + ops.matmul(x, layer.input_kernel)
            + layer.input_bias
        )

    def adapt(self, x):
        """Sets shifts and scales so that each pre-activation has mean 0 and deviation 1 over the rows of `x`."""
        h = ops.softplus(ops.matmul(x, self.kernel) + self.bias)
        for layer in self.hidden:
            z = self._pre_activation(layer, h, x)
            layer.shift.assign(-ops.mean(z, axis=0))
            layer.log_scale.assign(_log_scale_of(z))
            z = (z + layer.shift) * _scale(layer.log_scale)
            skip = ops.matmul(x, layer.skip_kernel) + layer.skip_bias
            h = ops.concatenate([ops.softplus(z), ops.softplus(skip)], axis=-1)
        output = ops.matmul(h, _mean_of(self.last_kernel)) + ops.matmul(x, self.last_input_kernel)
        self.last_log_scale.assign(_log_scale_of(output))


def _mean_of(kernel):
    """A kernel of positive entries, over the number of its inputs."""
    return ops.softplus(kernel) / kernel.shape[0]


def _scale(log_scale):
    return ops.exp(log_scale) + 1e-3


def _log_scale_of(z):
    """What scales columns to a standard deviation of 1, at most 999 times."""
    deviation = ops.clip(ops.std(z, axis=0), 1e-3, 900.0)
    return ops.log(1.0 / deviation - 1e-3)
