"""Denoisers that are gradients of convex functions, and so proximal maps of a prior."""

import math
from typing import Any

import keras
from keras import ops

from keras_regularize import autodiff
from keras_regularize.configuration import Configured
from keras_regularize.numerics import upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


class _GradientLayer(Configured, keras.layers.Layer):
    """A layer whose output is the gradient of its `potential`, which treats samples independently."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.supports_masking = True

    def potential(self, x: Any) -> Any:
        """One value per sample `(batch,)`."""
        raise NotImplementedError

    def call(self, inputs: Any) -> Any:
        return ops.cast(autodiff.input_gradient(self.potential, upcast(inputs)), self.compute_dtype)

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> Any:
        # Symbolic inputs have no gradient.
        return keras.KerasTensor(inputs.shape, self.compute_dtype)


@export
class LearnedProximal(_GradientLayer):
    r"""A denoiser that is the proximal map of some prior, whatever its weights: the gradient of a convex network.

    $$f = \nabla \psi,\quad \psi(x) = w_z^\top z_{L+1} + w_x^\top x + b + \alpha \|x\|^2,\quad
      z_{i+1} = s(W^z_i z_i + W^x_i x + b_i),\quad z_1 = s(W_0 x),$$

    with $W^z_i, w_z \ge 0$ and the softplus $s(v) = \log(1 + e^{\beta v}) / \beta$. A function is
    $\operatorname{prox}_\varphi$ of some $\varphi$, not convex in general, if and only if it is such a gradient.
    So iterations with it converge (`kr.inverse.plug_and_play`), and the prior it has learned can be read off
    (`kr.inverse.evaluate_prior`). Train it to denoise, by `kr.losses.ProximalMatching`.

    Args:
        units: Width of the hidden layers, at least 1.
        num_layers: $L \ge 0$, number of hidden layers after the first.
        beta: $\beta > 0$: the larger, the sharper the kinks; 10 for numbers about 1, 100 for fine images.
        strong_convexity: $\alpha \ge 0$; above 0 the map is invertible.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input and output: `(batch, …)` of known size; all entries of a sample are connected. For images see
    `kr.inverse.convex_cnn`.

    Raises:
        ValueError: If an argument is out of range or the size of a sample is not known.

    Cost: one forward and one backward pass of the network; in training twice that again.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x = np.random.laplace(size=(64, 1))
    model = keras.Sequential([kr.layers.LearnedProximal(8, 2, beta=10.0)])
    model.compile("adam", "mae")
    model.fit(x + np.random.normal(size=x.shape), x, verbose=0)
    ```

    Reference: Zhenghan Fang, Sam Buchanan and Jeremias Sulam, *What's in a Prior? Learned Proximal Networks for
    Inverse Problems*, ICLR 2024, arXiv:2310.14344.
    """

    def __init__(
        self,
        units: int,
        num_layers: int = 1,
        beta: float = 1.0,
        strong_convexity: float = 0.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.units = check_integer("units", units, minimum=1)
        self.num_layers = check_integer("num_layers", num_layers, minimum=0)
        self.beta = check_number("beta", beta, above=0)
        self.strong_convexity = check_number("strong_convexity", strong_convexity, minimum=0)

    def build(self, input_shape: Any) -> None:
        shape = tuple(input_shape[1:])
        if not shape or None in shape:
            raise ValueError(
                "`LearnedProximal` takes samples `(batch, …)` of a known size. "
                f"Received: shape={tuple(input_shape)}"
            )
        size = math.prod(shape)
        self.first_kernel = self.add_weight((size, self.units), "glorot_uniform", name="kernel")
        self.blocks = [
            self._add_block(i, size, units)
            for i, units in enumerate([self.units] * self.num_layers + [1])
        ]

    def _add_block(self, i, size, units):
        """Kernel of the layer before, of the input, and bias."""
        return (
            self.add_weight(
                (self.units, units),
                # About a mean, so that a network of sums does not start out steep.
                keras.initializers.RandomUniform(0.0, 2.0 / self.units),
                constraint=keras.constraints.NonNeg(),
                name=f"kernel_z_{i}",
            ),
            self.add_weight((size, units), "glorot_uniform", name=f"kernel_x_{i}"),
            # The last is a constant of the potential, which the output does not have.
            self.add_weight((units,), "zeros", trainable=i < self.num_layers, name=f"bias_{i}"),
        )

    def potential(self, x: Any) -> Any:
        r"""The convex function $\psi$ of samples `(batch, …)`: `(batch,)`."""
        x = upcast(x)
        size = self.first_kernel.shape[0]
        if None not in x.shape[1:] and math.prod(x.shape[1:]) != size:
            raise ValueError(
                f"Expected samples of {size} numbers (batch, …). Received: shape={tuple(x.shape)}"
            )
        x = ops.reshape(x, (ops.shape(x)[0], size))

        def read(variable):
            return ops.cast(variable, x.dtype)

        z = x @ read(self.first_kernel)
        for kernel_z, kernel_x, bias in self.blocks:
            z = self._rectify(z) @ read(kernel_z) + x @ read(kernel_x) + read(bias)
        return z[:, 0] + self.strong_convexity * ops.sum(x * x, axis=-1)

    def _rectify(self, x):
        return ops.softplus(self.beta * x) / self.beta

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


@export
class GradientOf(_GradientLayer):
    r"""The gradient of a scalar model with respect to its input, as a layer that trains the model.

    $$f(x) = \nabla_x \sum_k \psi_k(x).$$

    If the model is convex in its input, such as `kr.inverse.convex_cnn`, it is a proximal map, see
    `kr.layers.LearnedProximal`; if it is an energy, the field of its forces.

    Args:
        model: $\psi$, a Keras model or layer of one floating input that treats samples independently (no batch
            statistics), twice differentiable to be trained: not with a ReLU alone, whose gradient is flat. A bias
            of the last layer would have no gradient: leave it out.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input and output: as the input of the model.

    Raises:
        ValueError: If `model` is no layer.

    Cost: one forward and one backward pass of the model; in training twice that again.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    layers = [keras.layers.Dense(8, "softplus"), keras.layers.Dense(1, use_bias=False)]
    energy = keras.Sequential(layers)
    model = keras.Sequential([kr.layers.GradientOf(energy)])
    model.compile("adam", "mse")
    x = np.random.normal(size=(32, 3))
    model.fit(x, x, verbose=0)
    ```

    Reference: Regev Cohen, Yochai Blau, Daniel Freedman and Ehud Rivlin, *It Has Potential: Gradient-Driven
    Denoisers for Convergent Solutions to Inverse Problems*, NeurIPS 2021.
    """

    def __init__(self, model: keras.layers.Layer, **kwargs: Any):
        super().__init__(**kwargs)
        if not isinstance(model, keras.layers.Layer):
            raise ValueError(
                f"`GradientOf` takes a Keras model or layer. Received: model={model!r} of type "
                f"{type(model).__name__}"
            )
        self.model = model

    def build(self, input_shape: Any) -> None:
        if not self.model.built:
            self.model.build(input_shape)

    def potential(self, x: Any) -> Any:
        """The model's output, summed for each sample: `(batch,)`."""
        values = upcast(self.model(x))
        return ops.sum(values, axis=tuple(range(1, len(values.shape))))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape
