"""Bit-wise weights: the bits of integer kernels are trained, each by itself."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.autodiff import straight_through
from keras_regularize.layers.reparameterization.kernels import fan_in, kernels_of, output_axes
from keras_regularize.layers.reparameterization.reparameterized import Reparameterized, is_kernel
from keras_regularize.numerics import upcast
from keras_regularize.registration import export
from keras_regularize.utils.variables import weight_like
from keras_regularize.validation import check_integer, check_number

_MAX_BITS = 24  # Integers that float32 holds exactly.


@export
class BitWeights(Reparameterized):
    r"""Trains the bits of an integer kernel instead of a float kernel: quantized from the first step on.

    Every weight has magnitude bits $m_0 \dots m_{b-2}$, the least significant first, and a sign bit $s$. Each
    is a float "virtual bit" $v$ that counts as $[v > 0]$:

    $$w = \alpha\,(-1)^{[s > 0]} \sum_{i=0}^{b-2} 2^i\,[m_i > 0].$$

    Gradients go straight through: $\partial [v > 0] / \partial v = 1$, and for the sign $\partial (-1)^{[s >
    0]} / \partial s = -1$, so plane $i$ moves in proportion to $2^i$. A weight whose magnitude bits are all
    off is exactly zero: training makes the kernel sparse by itself. One bit gives $\pm\alpha$, two bits
    ternary weights. Planes that are not trained keep their random bits, or whatever `write_bits` puts there:
    the paper trains the two highest magnitude bits and the sign of six and stores data in the others.

    The scale $\alpha$ is fixed when the layer is built, so that the kernel has the standard deviation
    $\sqrt{2 / \text{fan-in}}$. Use Adam at 9e-4 and lower it twice by ten, as the authors do; weight decay on
    virtual bits only shuffles them, so leave out the `bit` and `sign` variables. A bias is trained as
    usual (the authors have none). The wrapped layer's own kernel is not used and not trained. `fold()` gives a
    plain layer with the composed kernel.

    Args:
        layer: The layer to wrap; it must have exactly one kernel (dense, convolutional, depthwise).
        bits: Number $b$ of bits with the sign, 1 to 24.
        trainable_bits: For each bit, from the least significant to the sign, whether it is trained, e.g.
            `[0, 0, 0, 1, 1, 1]`; all by default.
        scale: `"he"`, or the number $\alpha > 0$.
        **kwargs: `name` and other arguments of `keras.layers.Layer`.

    Inputs and outputs: those of the wrapped layer. Weights beside those of the layer: the trained and then the
    other of `bit_0` …, `sign` and `scale`.

    Raises:
        ValueError: If an argument is out of range, or the layer does not have exactly one kernel, or has a
            regularizer or constraint on it, which would not act.

    Cost: $b$ elementwise passes over the kernel, and $b$ variables of its size with the optimizer's memory for
    the trained ones.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    layer = kr.layers.BitWeights(keras.layers.Dense(3), bits=4, trainable_bits=[0, 1, 1, 1])
    layer(np.ones((2, 5)))
    planes = layer.read_bits()  # (4, 5, 3) of zeros and ones, the sign last
    planes[0] = 1
    layer.write_bits(planes)
    ```

    Reference: Cristian Ivan, *Bit-wise Training of Neural Network Weights*, 2022, arXiv:2202.09571. The
    authors find the scale by bisection to 0.1%; here it is the closed form. They redraw weights whose magnitude
    bits are all off; here the initial bits are drawn from the distribution that leaves.
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        bits: int = 6,
        trainable_bits: Sequence[bool] | None = None,
        scale: str | float = "he",
        **kwargs: Any,
    ):
        super().__init__(layer, **kwargs)
        self.bits = check_integer("bits", bits, minimum=1, maximum=_MAX_BITS)
        if trainable_bits is not None:
            flags = list(trainable_bits) if np.ndim(trainable_bits) else []
            if len(flags) != bits or any(flag not in (0, 1) for flag in flags):
                raise ValueError(
                    f"`trainable_bits` must be {bits} times 0 or 1, from the least significant bit to the "
                    f"sign. Received: trainable_bits={trainable_bits}"
                )
            trainable_bits = [bool(flag) for flag in flags]
        self.trainable_bits = trainable_bits
        self.initial_scale = scale if scale == "he" else check_number("scale", scale, above=0)

    def build(self, *args: Any, **kwargs: Any) -> None:
        super().build(*args, **kwargs)
        kernels = kernels_of(self.layer)
        if len(kernels) != 1:
            raise ValueError(
                f"`BitWeights` needs a layer with exactly one kernel. Received: layer={self.layer!r}, whose "
                f"weights are called {[weight.name for weight in self.layer.weights]}"
            )
        for name in ("regularizer", "constraint"):
            if getattr(kernels[0], name) is not None:
                raise ValueError(
                    f"`BitWeights` trains bits and leaves the kernel of the layer aside, so that its {name} would "
                    f"have no effect. Received a layer with a kernel {name}: {getattr(kernels[0], name)}"
                )
        shape = tuple(kernels[0].shape)
        inputs = fan_in(shape, output_axes(self.layer)[0])
        magnitude, sign, scale = _initial_bits(shape, self.bits, inputs)
        if self.initial_scale != "he":
            scale = self.initial_scale
        trained = self.trainable_bits or [True] * self.bits

        def plane(name, value, trainable):
            constant = keras.initializers.Constant(value)
            return weight_like(self, kernels[0], constant, trainable=trainable, name=name)

        constant = keras.initializers.Constant(scale)
        self.scale = self.add_weight((), constant, trainable=False, name="scale")
        self.magnitude = [plane(f"bit_{i}", bits, trained[i]) for i, bits in enumerate(magnitude)]
        self.sign = plane("sign", sign, trained[-1])
        self._leave_kernel()
        if not self.trainable:  # What `add_weight` sees to.
            self.trainable = False

    def _leave_kernel(self):
        for kernel in kernels_of(self.layer):
            kernel.trainable = False

    @property
    def trainable(self) -> bool:
        """As of any layer; the wrapped layer's kernel, which is not used, never trains."""
        return super().trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        keras.layers.Wrapper.trainable.fset(self, value)
        if self.built:
            self._leave_kernel()

    def effective(self, name: str, value: Any) -> Any:
        if not is_kernel(name):
            return value
        magnitude = ops.stack([plane.value for plane in self.magnitude]) if self.magnitude else None
        return ops.cast(self.compose(magnitude, self.sign.value, self.scale.value), value.dtype)

    @staticmethod
    def compose(magnitude: Any, sign: Any, scale: Any) -> Any:
        r"""The kernel $\alpha (-1)^{[s > 0]} \sum_i 2^i [m_i > 0]$ of virtual bits.

        Args:
            magnitude: $m$, `(bits - 1, *shape)`, the least significant plane first; with no plane, or
                `None`, the magnitude is 1.
            sign: $s$, of any shape.
            scale: $\alpha$, a number or a tensor that broadcasts.

        Returns:
            A tensor of the shape of `sign`, in at least float32.

        Raises:
            ValueError: If the planes do not have the shape of `sign`.
        """
        sign = upcast(sign)
        factor = straight_through(1.0 - 2.0 * ops.cast(sign > 0, sign.dtype), -sign)
        kernel = factor * ops.cast(scale, sign.dtype)
        if magnitude is None or np.shape(magnitude)[0] == 0:
            return kernel
        magnitude = upcast(magnitude)
        if tuple(magnitude.shape[1:]) != tuple(sign.shape):
            raise ValueError(
                f"`magnitude` must be planes of the shape of the sign, (bits - 1, *{tuple(sign.shape)}). "
                f"Received: magnitude of shape {tuple(magnitude.shape)}"
            )
        bit = straight_through(ops.cast(magnitude > 0, magnitude.dtype), magnitude)
        powers = 2.0 ** np.arange(magnitude.shape[0])
        powers = powers.reshape((-1,) + (1,) * len(sign.shape)).astype("float32")
        return kernel * ops.sum(bit * ops.cast(powers, bit.dtype), axis=0)

    def read_bits(self) -> np.ndarray:
        """The bits, a `uint8` array `(bits, *kernel shape)` of 0 and 1: magnitudes from the lowest, then the sign.

        Raises:
            ValueError: If the layer is not built.
        """
        planes = [ops.convert_to_numpy(plane.value) for plane in self._planes()]
        return (np.stack(planes) > 0).astype("uint8")

    def write_bits(self, planes: Any) -> None:
        """Sets the bits, also those that are not trained. A virtual bit that has to change flips its sign.

        Args:
            planes: Array of 0 and 1 of the shape that `read_bits` gives.

        Raises:
            ValueError: If the layer is not built, or `planes` has another shape or other values.
        """
        variables = self._planes()
        given = np.asarray(planes)
        shape = (self.bits, *variables[0].shape)
        if given.shape != shape or not np.isin(given, (0, 1)).all():
            raise ValueError(
                f"`planes` must be an array {shape} of 0 and 1. Received: shape {given.shape} with values "
                f"{np.unique(given)[:5]}"
            )
        smallest = np.finfo("float32").tiny
        for bit, variable in zip(given, variables):
            value = ops.convert_to_numpy(variable.value)
            on = np.maximum(np.abs(value), smallest)
            variable.assign(np.where(bit == 1, on, -np.abs(value)))

    def _planes(self):
        if not self.built:
            raise ValueError(
                f"The bits exist once the layer is built. Received: {self.name!r}, which is not; call it "
                "on data first."
            )
        return [*self.magnitude, self.sign]


def _initial_bits(shape, bits, inputs):
    """Virtual bits such that no weight is zero, and the scale for a kernel of He's standard deviation."""
    # NumPy, since a layer may be built inside a trace; the seed is Keras'.
    rng = np.random.default_rng(keras.initializers.RandomNormal().seed)
    count = bits - 1
    sizes = np.abs(rng.normal(size=(count, *shape)))
    sizes *= math.sqrt(2.0 / max(count * math.prod(shape[:-1]), 1))
    # Signs of normal numbers are fair coins: given that one is on, all patterns but zero are equally likely.
    pattern = rng.integers(1, 2**count, shape) if count else np.ones(shape, "int64")
    on = (pattern >> np.arange(count).reshape((-1,) + (1,) * len(shape))) & 1
    sign = rng.normal(size=shape) * math.sqrt(2.0 / inputs)
    integers = pattern * np.where(sign > 0, -1, 1)
    spread = integers.std() or np.abs(integers).mean()
    magnitude = np.where(on == 1, sizes, -sizes)
    return magnitude.astype("float32"), sign.astype("float32"), math.sqrt(2.0 / inputs) / spread
