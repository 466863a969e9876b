"""Weights and architecture of a small network at once, by gradient descent on the vector of an autoencoder."""

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.hyper.network_autoencoder import NetworkAutoencoder
from keras_regularize.validation import check_integer, check_number

STEEPNESS = 100.0  # Of what a weight below the threshold is multiplied by.
COUNT_STEEPNESS = 10.0  # Of the count of weights above it.
THRESHOLD_SCALE = 0.1  # The threshold is learnt at a tenth of the learning rate.
LARGEST_THRESHOLD = 3.0


@dataclasses.dataclass(frozen=True, eq=False)
class FoundNetwork:
    """What `search_network` finds.

    Attributes:
        model: A Keras model of plain dense layers that have the active units alone, for data as they were given.
        active_neurons: Number of units of every hidden layer of the decoded network that the outputs depend on.
        squared_error: Mean squared error of `model` on the data.
        history: `{"objective": mean of the objective over the candidates, in each step}`.
        candidates: A dictionary for each candidate: `depth`, `active_neurons`, `squared_error` and `objective`.
    """

    model: keras.Model
    active_neurons: list[int]
    squared_error: float
    history: dict[str, list[float]]
    candidates: list[dict[str, Any]]

    def plot(self, ax: Any = None) -> Any:
        """Draws errors of the candidates against their active neurons; what was chosen has a ring.

        Args:
            ax: Axes of Matplotlib to draw on; `None` for the current ones.

        Returns:
            The axes.
        """
        import matplotlib.pyplot as plt

        ax = plt.gca() if ax is None else ax
        for depth in sorted({candidate["depth"] for candidate in self.candidates}):
            own = [c for c in self.candidates if c["depth"] == depth]
            neurons = [sum(c["active_neurons"]) for c in own]
            ax.plot(neurons, [c["squared_error"] for c in own], "o", label=f"{depth} hidden")
        ring = {"ms": 12, "mfc": "none", "mec": "black", "ls": "none"}
        ax.plot(sum(self.active_neurons), self.squared_error, marker="o", **ring)
        ax.set(yscale="log", xlabel="active neurons", ylabel="squared error")
        ax.legend()
        return ax


def search_network(
    autoencoder: NetworkAutoencoder,
    x: Any,
    y: Any,
    sparsity: float = 1e-3,
    steps: int = 1000,
    restarts: int = 4,
    learning_rate: float = 0.1,
    seed: int = 0,
) -> FoundNetwork:
    r"""Finds a small network for data by gradient descent on weights and architecture at once.

    For each decoder of a `kr.hyper.NetworkAutoencoder`, the vector $z$ and a threshold $t \in [0, 3]$ are learnt.
    With the decoded kernels $w$, those of units that do not exist being 0, the network of
    $w\,\sigma(100 (|w| - t))$ has the objective

    $$\frac{\mathrm{mean}\,\lVert y - f(x) \rVert^2}{\mathrm{var}\,y}
    + \lambda \sum_w \Big(\tfrac12\,\sigma\big(10 (|w| - t)\big) + \tfrac1{10} |w|\Big).$$

    At the end weights up to $t$ become 0 exactly, and units that nothing depends on are removed, as are those that
    are constant, into the biases behind them. Of all depths and restarts the network is taken whose objective is
    least then, with a count of weights in place of the sigmoids. It is a plain Keras model, to be compiled and
    trained on. Inputs are scaled to $[-1, 1]$ and targets standardized during the search.

    Args:
        autoencoder: The autoencoder, after its `fit`.
        x: Inputs `(samples, input_dim)`, or `(samples,)`.
        y: Targets `(samples, output_dim)`, or `(samples,)`.
        sparsity: $\lambda \ge 0$.
        steps: Steps of Adam, each on all data, at least 1. The learning rate falls to 0 as a cosine.
        restarts: Random networks to start from, for each depth, at least 1.
        learning_rate: Of $z$ at the start, above 0; that of $t$ is a tenth.
        seed: Seed of where the search starts.

    Returns:
        A `FoundNetwork` with the `model`, its `active_neurons`, `squared_error`, the `history`, all `candidates`
        and `plot(ax=None)`.

    Raises:
        ValueError: If an argument is out of range, or data are not finite or of another shape.

    Cost: per step a forward and a backward pass of all data through `restarts` networks of every depth.

    Example:

    ```python
    import keras_regularize as kr
    import numpy as np

    autoencoder = kr.hyper.NetworkAutoencoder(units=4, depths=(1, 2), hidden_units=32)
    autoencoder.fit(num_networks=200, epochs=2)
    x = np.linspace(0, 3, 50)
    found = kr.hyper.search_network(autoencoder, x, np.sin(x), steps=20)
    found.model.summary()
    ```

    Reference: Zitong Huang, Mansooreh Montazerin and Ajitesh Srivastava, *Simultaneous Weight and Architecture
    Optimization for Neural Networks*, 2024, arXiv:2410.08339. The authors' code takes a 7000th of the first error
    for $\lambda$, 30 000 steps at a constant rate, one start for each depth, and leaves the thresholds soft.
    """
    if not isinstance(autoencoder, NetworkAutoencoder):
        raise ValueError(
            f"`autoencoder` must be a `kr.hyper.NetworkAutoencoder`. Received: {autoencoder!r}"
        )
    check_number("sparsity", sparsity, minimum=0)
    check_integer("steps", steps, minimum=1)
    check_integer("restarts", restarts, minimum=1)
    check_integer("seed", seed, minimum=0)
    check_number("learning_rate", learning_rate, above=0)
    x = _columns("x", x, autoencoder.input_dim)
    y = _columns("y", y, autoencoder.output_dim)
    if len(x) != len(y) or not len(x):
        raise ValueError(
            f"`x` and `y` must have the same number of samples, at least 1. Received: {len(x)} and {len(y)}"
        )
    center, radius = (x.max(0) + x.min(0)) / 2, _positive(np.ptp(x, axis=0) / 2)
    mean = y.mean(0)
    scale = _positive(np.sqrt(np.mean((y - mean) ** 2)))
    inputs = ((x - center) / radius).astype("float32")
    targets = ((y - mean) / scale).astype("float32")

    random = np.random.default_rng(seed)
    codes, _ = autoencoder.random_networks(restarts * len(autoencoder.depths), inputs[:1], random)
    search = _Candidates(autoencoder, codes, sparsity)
    trainer = keras.Sequential([keras.Input(inputs.shape[1:]), search])
    decay = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    trainer.compile(keras.optimizers.Adam(decay), _squared_errors)
    losses = [float(trainer.train_on_batch(inputs, targets[:, None])) for _ in range(steps)]

    best, candidates = None, []
    for depth, layers in search.hard_networks():
        penalty = sum(0.5 * np.count_nonzero(w) + 0.1 * np.abs(w).sum() for w, _ in layers)
        layers, neurons = _pruned(layers, autoencoder.activation)
        # Scaled back: the network takes data as they were given.
        layers[0][1] = layers[0][1] - (center / radius) @ layers[0][0]
        layers[0][0] = layers[0][0] / radius[:, None]
        layers[-1][0] = layers[-1][0] * scale
        layers[-1][1] = layers[-1][1] * scale + mean
        model = _keras_model(layers, autoencoder.activation)
        error = float(np.mean((model.predict_on_batch(x.astype("float32")) - y) ** 2))
        record = {
            "depth": depth,
            "active_neurons": neurons,
            "squared_error": error,
            "objective": float(error / scale**2 + sparsity * penalty),
        }
        candidates.append(record)
        if best is None or record["objective"] < best[1]["objective"]:
            best = model, record
    assert best is not None
    model, record = best
    return FoundNetwork(
        model,
        record["active_neurons"],
        record["squared_error"],
        {"objective": [loss / len(candidates) for loss in losses]},
        candidates,
    )


class _Candidates(keras.layers.Layer):
    """Outputs `(batch, candidates, output_dim)` of networks of all depths, whose vectors are its weights."""

    def __init__(self, autoencoder, codes, sparsity):
        super().__init__(dtype="float32")
        self._autoencoder, self._sparsity = autoencoder, sparsity
        starts = ops.convert_to_numpy(ops.stop_gradient(autoencoder.encoder(codes)))
        self._vectors, self._thresholds = [], []
        for start in np.split(starts, len(autoencoder.depths)):
            self._vectors.append(self._weight(start))
            self._thresholds.append(self._weight(np.zeros((len(start), 1, 1)), _within_range))

    def call(self, inputs):
        outputs = []
        for _, layers, t in self.networks():
            soft = []
            for kernel, bias in layers:
                size = ops.abs(kernel)
                count = ops.sum(ops.sigmoid(COUNT_STEEPNESS * (size - t)))
                self.add_loss(self._sparsity * (0.5 * count + 0.1 * ops.sum(size)))
                soft.append((kernel * ops.sigmoid(STEEPNESS * (size - t)), bias))
            outputs.append(self._autoencoder.outputs(soft, inputs))
        return ops.transpose(ops.concatenate(outputs), (1, 0, 2))

    def networks(self):
        """Depth, layers and thresholds of the candidates of each depth."""
        for depth, z, t in zip(self._autoencoder.depths, self._vectors, self._thresholds):
            decoded = self._autoencoder.decoders[depth](z.value)
            yield depth, self._autoencoder.layers(decoded, depth), THRESHOLD_SCALE * t

    def hard_networks(self):
        """Depth and layers of each candidate as arrays, with zeros in place of weights up to the threshold."""
        for depth, layers, t in self.networks():
            t = _array(t)
            arrays = [(_array(kernel), _array(bias)) for kernel, bias in layers]
            for i in range(len(t)):
                yield (
                    depth,
                    [(kernel[i] * (np.abs(kernel[i]) > t[i]), b[i]) for kernel, b in arrays],
                )

    def _weight(self, value, constraint=None):
        weight = self.add_weight(shape=value.shape, initializer="zeros", constraint=constraint)
        weight.assign(value)
        return weight


def _within_range(t):
    return ops.clip(t, 0.0, LARGEST_THRESHOLD / THRESHOLD_SCALE)


def _squared_errors(y_true, y_pred):
    """Of a sample, summed over the candidates, as these are independent of one another."""
    return ops.sum(ops.mean(ops.square(y_pred - y_true), axis=-1), axis=-1)


def _pruned(layers, activation):
    """The same network without units that nothing depends on or that are constant, and its widths."""
    layers = [list(layer) for layer in layers]
    before = None
    while before != (before := [len(bias) for _, bias in layers]):
        for own, following in zip(layers, layers[1:]):
            kept = (own[0] != 0).any(axis=0) & (following[0] != 0).any(axis=1)
            constant = _array(activation(ops.convert_to_tensor(own[1][~kept], "float32")))
            following[1] = following[1] + constant @ following[0][~kept]
            own[:] = own[0][:, kept], own[1][kept]
            following[0] = following[0][kept]
    return layers, before[:-1]


def _keras_model(layers, activation):
    inputs = len(layers[0][0])
    if not all(len(bias) for _, bias in layers):  # A constant.
        bias = layers[-1][1]
        layers = [(np.zeros((inputs, len(bias))), bias)]
    model = keras.Sequential([keras.Input((inputs,))])
    for kernel, _ in layers[:-1]:
        model.add(keras.layers.Dense(kernel.shape[1], activation))
    model.add(keras.layers.Dense(len(layers[-1][1])))
    model.set_weights([array for layer in layers for array in layer])
    return model


def _columns(name, data, width):
    data = _array(data).astype("float64")
    data = data[:, None] if data.ndim == 1 else data
    if data.ndim != 2 or data.shape[1] != width:
        raise ValueError(
            f"`{name}` must have the shape (samples, {width}), as the autoencoder's networks. "
            f"Received: {name} of shape {data.shape}"
        )
    if not np.isfinite(data).all():
        raise ValueError(f"`{name}` must be finite. Received values that are not")
    return data


def _array(x):
    return np.array(ops.convert_to_numpy(x))


def _positive(scale):
    return np.where(scale > 0, scale, 1.0)
