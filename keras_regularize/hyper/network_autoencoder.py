"""An autoencoder of small networks: what vector they are, and what networks are near that vector."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.autodiff import straight_through
from keras_regularize.configuration import Configured
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_integer, check_number


@export
class NetworkAutoencoder(Configured):
    r"""Maps small dense networks to a vector and back, so that a search among networks is one among vectors.

    A network is written as one vector: kernels and biases of its layers, padded to `units`, and for every hidden
    unit whether it exists. The encoder maps that to $z$, and a decoder $D_d$ for each depth $d$ maps $z$ to a
    network of $d$ hidden layers. What counts is not the weights but what the network computes: `fit` lowers, over
    random networks $f$ of all depths and widths, and over random points $x$ in $[-1, 1]$,

    $$\frac1n \sum_f \min_d\; \operatorname*{mean}_x \lVert D_d(z_f)(x) - f(x) \rVert^2.$$

    Whether a unit exists is the sign of an entry of what is decoded, with the gradient of its sigmoid.
    `kr.hyper.search_network` then looks for the $z$ of a network that fits data. This is for networks of some
    dozens of units.

    Args:
        input_dim: Inputs of the networks, at least 1.
        output_dim: Outputs of the networks, at least 1.
        units: Most units of a hidden layer, at least 1.
        depths: The numbers of hidden layers that there is a decoder for, different ones, at least 1.
        latent_dim: Entries of $z$, at least 1.
        hidden_units: Units of the two hidden layers of encoder and decoders.
        activation: Of the hidden layers of all networks, a name or function of Keras.
        seed: Seed of the weights and of the random networks.

    Attributes:
        encoder: Keras model from networks to vectors.
        decoders: `{depth: Keras model from vectors to networks}`.
        model: Both together; its `save_weights` and `load_weights` keep what `fit` learnt.

    Raises:
        ValueError: If an argument is out of range.

    Cost: of `fit`, per step passes of small dense networks, and of a batch of the networks at `points` inputs.

    Example:

    ```python
    import keras_regularize as kr

    autoencoder = kr.hyper.NetworkAutoencoder(units=4, depths=(1, 2), hidden_units=32)
    history = autoencoder.fit(num_networks=200, epochs=2)
    ```

    Reference: Zitong Huang, Mansooreh Montazerin and Ajitesh Srivastava, *Simultaneous Weight and Architecture
    Optimization for Neural Networks*, 2024, arXiv:2410.08339. Of it the abstract and the authors' code were read.
    That encodes by residual convolutions and an encoder for each depth, here are dense layers and one encoder for
    all; its networks have no biases, and whether a unit exists gets no gradient there.
    """

    def __init__(
        self,
        input_dim: int = 1,
        output_dim: int = 1,
        units: int = 8,
        depths: Sequence[int] = (1, 2, 3),
        latent_dim: int = 32,
        hidden_units: int = 128,
        activation: Any = "tanh",
        seed: int = 0,
    ):
        self.input_dim = check_integer("input_dim", input_dim, minimum=1)
        self.output_dim = check_integer("output_dim", output_dim, minimum=1)
        self.units = check_integer("units", units, minimum=1)
        if not np.ndim(depths) or not len(depths) or len(set(depths)) != len(depths):
            raise ValueError(
                f"`depths` must be different numbers of hidden layers. Received: depths={depths!r}"
            )
        self.depths = [check_integer("depths", depth, minimum=1) for depth in depths]
        self.latent_dim = check_integer("latent_dim", latent_dim, minimum=1)
        self.hidden_units = check_integer("hidden_units", hidden_units, minimum=1)
        self.activation = keras.activations.get(activation)
        self.seed = check_integer("seed", seed, minimum=0)
        self._sizes = [self._size(depth) for depth in self.depths]
        self._random = np.random.default_rng(self.seed)
        code_size = max(self._sizes) + len(self.depths)
        self.encoder = self._dense(code_size, self.latent_dim, 0)
        self.decoders = {
            depth: self._dense(self.latent_dim, size, depth)
            for depth, size in zip(self.depths, self._sizes)
        }
        networks = keras.Input((code_size,), dtype="float32")
        z = self.encoder(networks)
        decoded = [decoder(z) for decoder in self.decoders.values()]
        self.model = keras.Model(networks, ops.concatenate(decoded, axis=-1))

    def fit(
        self,
        num_networks: int = 4000,
        epochs: int = 30,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        points: int = 64,
        verbose: Any = 0,
    ) -> keras.callbacks.History:
        """Learns from random networks; called again, from others.

        Args:
            num_networks: How many are drawn, at least one for each depth.
            epochs: Passes over them.
            batch_size: Networks in a step.
            learning_rate: Of Adam.
            points: Number of inputs at which networks are compared.
            verbose: As in Keras' `fit`.

        Returns:
            The history of Keras' `fit`, of which `history["loss"]` is the mean squared error over networks.

        Raises:
            ValueError: If an argument is out of range.
        """
        check_integer("num_networks", num_networks, minimum=len(self.depths))
        check_integer("epochs", epochs, minimum=1)
        check_integer("batch_size", batch_size, minimum=1)
        check_number("learning_rate", learning_rate, above=0)
        check_integer("points", points, minimum=1)
        x = self._random.uniform(-1, 1, (points, self.input_dim)).astype("float32")
        codes, targets = self.random_networks(num_networks, x)
        ends = np.cumsum([0, *self._sizes])

        def nearest_decoder(y_true, y_pred):
            errors = []
            for depth, start, end in zip(self.depths, ends, ends[1:]):
                outputs = self.outputs(self.layers(y_pred[:, start:end], depth), x)
                outputs = ops.reshape(outputs, (-1, points * self.output_dim))
                errors.append(ops.mean(ops.square(outputs - y_true), axis=-1))
            return ops.min(ops.stack(errors), axis=0)

        self.model.compile(keras.optimizers.Adam(learning_rate), nearest_decoder)
        order = self._random.permutation(len(codes))  # Keras' own shuffling has no seed of ours.
        return self.model.fit(
            codes[order],
            targets.reshape((len(codes), -1))[order],
            batch_size=batch_size,
            epochs=epochs,
            shuffle=False,
            verbose=verbose,
        )

    def random_networks(
        self, count: int, x: Any, random: np.random.Generator | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Random networks as the encoder takes them, and what they compute.

        Args:
            count: Number of networks, divided among the depths, at least one for each.
            x: Inputs `(points, input_dim)`.
            random: NumPy's generator; `None` for that of the autoencoder.

        Returns:
            `(count, entries)` and `(count, points, output_dim)`, in the order of `depths`.

        Raises:
            ValueError: If there is not one for each depth, or `x` has another shape.
        """
        check_integer("count", count, minimum=len(self.depths))
        random = self._random if random is None else random
        codes, targets = [], []
        for i, depth in enumerate(self.depths):
            share = len(range(i, count, len(self.depths)))
            parts, layers, before = [], [], np.ones((share, self.input_dim))
            for shapes in self._shapes(depth):
                fan_in, fan_out = shapes[0]
                last = len(shapes) == 2
                widths = np.full((share, 1), fan_out)
                if not last:
                    widths = random.integers(1, fan_out + 1, (share, 1))
                exists = np.arange(fan_out) < widths
                scale = (1.0 if last else 3.0) / np.sqrt(before.sum(axis=1))[:, None, None]
                kernel = scale * random.normal(size=(share, fan_in, fan_out))
                kernel *= before[:, :, None] * exists[:, None]
                bias = random.normal(size=exists.shape) * exists
                layers.append((kernel.astype("float32"), bias.astype("float32")))
                parts += [kernel, bias] if last else [kernel, bias, exists]
                before = exists
            code = np.zeros((share, max(self._sizes) + len(self.depths)), "float32")
            vectors = np.concatenate([part.reshape((share, -1)) for part in parts], axis=1)
            code[:, : self._sizes[i]] = vectors
            code[:, i - len(self.depths)] = 1
            codes.append(code)
            targets.append(ops.convert_to_numpy(self.outputs(layers, x)))
        return np.concatenate(codes), np.concatenate(targets)

    def layers(self, vectors: Any, depth: int) -> list[tuple[Any, Any]]:
        """The networks that a decoder has written as vectors.

        Args:
            vectors: `(networks, entries)`.
            depth: Their number of hidden layers.

        Returns:
            `depth + 1` pairs of kernels `(networks, in, out)`, 0 where a unit does not exist, and biases
            `(networks, out)`.

        Raises:
            ValueError: If there is no decoder of that depth, or vectors have another size.
        """
        check_choice("depth", depth, self.depths)
        if len(vectors.shape) != 2 or vectors.shape[1] != self._size(depth):
            raise ValueError(
                f"Networks of depth {depth} are written as (networks, {self._size(depth)}). "
                f"Received: vectors of shape {tuple(vectors.shape)}"
            )
        layers, start, before = [], 0, None
        for shapes in self._shapes(depth):
            parts = []
            for shape in shapes:
                end = start + int(np.prod(shape))
                parts.append(ops.reshape(vectors[:, start:end], (-1, *shape)))
                start = end
            kernel, bias, *gates = parts
            if before is not None:
                kernel = kernel * ops.expand_dims(before, 2)
            for gate in gates:
                exists = ops.cast(gate > 0, gate.dtype)
                before = straight_through(exists, ops.sigmoid(gate))
                kernel = kernel * ops.expand_dims(before, 1)
            layers.append((kernel, bias))
        return layers

    def outputs(self, layers: Sequence[tuple[Any, Any]], x: Any) -> Any:
        """What networks compute.

        Args:
            layers: As of `layers`.
            x: Inputs `(points, input_dim)`.

        Returns:
            `(networks, points, output_dim)`.

        Raises:
            ValueError: If `x` has another shape.
        """
        x = ops.convert_to_tensor(x, "float32")
        if len(x.shape) != 2 or x.shape[1] != self.input_dim:
            raise ValueError(
                f"`x` must have the shape (points, {self.input_dim}). Received: x of shape {tuple(x.shape)}"
            )
        values = ops.expand_dims(x, 0)
        for i, (kernel, bias) in enumerate(layers):
            values = self.activation(values) if i else values
            values = ops.matmul(values, kernel) + ops.expand_dims(bias, 1)
        return values

    def _shapes(self, depth):
        """Shapes of kernel, bias and, for whether a unit exists, gate of every layer; the last has no gate."""
        n = self.units
        widths = [self.input_dim] + [n] * (depth - 1)
        last = ((n, self.output_dim), (self.output_dim,))
        return [((width, n), (n,), (n,)) for width in widths] + [last]

    def _size(self, depth):
        return sum(int(np.prod(shape)) for shapes in self._shapes(depth) for shape in shapes)

    def _dense(self, inputs, outputs, offset):
        def dense(units, i, activation=None):
            seed = 1000 * self.seed + 10 * offset + i
            initializer = keras.initializers.GlorotUniform(seed)
            return keras.layers.Dense(
                units, activation, kernel_initializer=initializer, dtype="float32"
            )

        return keras.Sequential(
            [
                keras.Input((inputs,), dtype="float32"),
                dense(self.hidden_units, 0, "leaky_relu"),
                dense(self.hidden_units, 1, "leaky_relu"),
                dense(outputs, 2),
            ]
        )
