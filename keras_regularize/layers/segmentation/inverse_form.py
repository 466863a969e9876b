"""Boundaries compared by the transformation between them, which a small network estimates."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.layers._losses import add_float_loss
from keras_regularize.layers.heads.labels import features_and_labels, features_shape
from keras_regularize.numerics import safe_norm, upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number, compatible


@export
class InverseForm(Configured, keras.layers.Layer):
    r"""Adds to the loss in training by how much predicted boundaries are turned, sheared and scaled.

    A network $g$ estimates the linear map that takes one boundary to another, of which the identity is subtracted.
    Both maps of boundaries are resized and cut into tiles of its size, and the layer adds

    $$\lambda \operatorname*{mean}_{\text{tiles}} \lVert g(p, y) \rVert_2 .$$

    It grows with how far a boundary is turned, sheared or scaled, whether or not its pixels still meet those of
    the target; the authors add it with 0.3 to cross-entropies of masks and boundaries. The network is trained
    before, by `layers.train_inverse_form` on boundaries alone, and frozen here; it is saved with the model.
    Weights of samples do not reach it.

    Args:
        network: $g$: a trained model of two maps `(tile, tile, 1)`, of prediction and target, with four outputs,
            such as that of `layers.inverse_form_network`.
        tiles: Numbers of tiles along height and width.
        factor: $\lambda \ge 0$.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: `[y_pred, labels]`: probabilities of boundaries `(batch, height, width, 1)`, for instance of a sigmoid,
    and boundaries as 0 and 1 of the same shape, of which the last axis may be missing; or `y_pred` alone at
    inference. Output: `y_pred`.

    Raises:
        ValueError: If an argument is out of its range, the network has other inputs or outputs, boundaries are
            missing in training, or shapes do not fit.

    Cost: a pass of the network for each tile, forward and backward.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    network = kr.layers.inverse_form_network(tile_size=8, units=[16])
    edges = np.random.randint(0, 2, size=(16, 8, 8))
    kr.layers.train_inverse_form(network, edges, epochs=1)

    x, labels = keras.Input((16, 16, 3)), keras.Input((16, 16), optional=True)
    p = keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")(x)
    p = kr.layers.InverseForm(network, tiles=[2, 2], factor=0.3)([p, labels])
    model = kr.models.WithLabels(keras.Model([x, labels], p))
    model.compile("adam", "binary_crossentropy")
    model.fit(np.random.normal(size=(4, 16, 16, 3)), np.ones((4, 16, 16)), verbose=0)
    ```

    Reference: Shubhankar Borse and others, *InverseForm: A Loss Function for Structured Boundary-Aware
    Segmentation*, CVPR 2021, arXiv:2104.02745.
    """

    def __init__(
        self,
        network: keras.Model,
        tiles: Sequence[int] = (3, 6),
        factor: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.network = network
        self._size = _tile_size(network)
        network.trainable = False
        self.tiles = [check_integer("tiles", number, minimum=1) for number in tiles]
        if len(self.tiles) != 2:
            raise ValueError(f"`tiles` must be two numbers. Received: tiles={tiles!r}")
        self.factor = check_number("factor", factor, minimum=0)

    @property
    def trainable(self) -> bool:
        """Without effect: there is nothing to train, and the network stays frozen."""
        return super().trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        keras.layers.Layer.trainable.fset(self, value)
        if hasattr(self, "network"):
            self.network.trainable = False

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        y_pred, labels = features_and_labels(self, inputs, training, 2)
        if labels is not None:
            labels = ops.convert_to_tensor(labels)
            if len(labels.shape) == len(y_pred.shape) - 1:
                labels = ops.expand_dims(labels, -1)
            shapes = tuple(labels.shape), tuple(y_pred.shape)
            if len(shapes[1]) != 4 or shapes[1][-1] != 1 or not compatible(*shapes):
                raise ValueError(
                    "Expected maps of boundaries of equal shapes (batch, height, width, 1). "
                    f"Received: y_pred.shape={shapes[1]}, labels.shape={shapes[0]}"
                )
            maps = [self._tiles(x) for x in (upcast(y_pred), upcast(labels))]
            distances = safe_norm(upcast(self.network(maps, training=False)), axis=-1)
            add_float_loss(self, self.factor * ops.mean(distances))
        return ops.cast(y_pred, self.compute_dtype)

    def _tiles(self, maps):
        """Maps `(batch, height, width, 1)` as tiles `(batch · tiles, tile, tile, 1)`."""
        (rows, columns), size = self.tiles, self._size
        maps = ops.image.resize(
            maps, (rows * size, columns * size), "bilinear", data_format="channels_last"
        )
        maps = ops.reshape(maps, (-1, rows, size, columns, size))
        return ops.reshape(ops.transpose(maps, (0, 1, 3, 2, 4)), (-1, size, size, 1))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return features_shape(input_shape)


@export
def inverse_form_network(tile_size: int = 224, units: Sequence[int] = (1000, 32)) -> keras.Model:
    """The network of `layers.InverseForm`: dense layers over the pixels of two boundaries, untrained.

    Args:
        tile_size: Height and width of its maps. The first layer has `2 * tile_size**2` inputs, so the authors'
            224 makes it a hundred million weights.
        units: Units of the hidden layers, which are rectified.

    Returns:
        A model of `[prediction, target]`, two maps `(tile_size, tile_size, 1)`, with four outputs: the matrix of
        the linear map from one to the other, less the identity.

    Raises:
        ValueError: If a size is no positive integer.

    Cost: a product of matrices for each layer.

    Example:

    ```python
    import keras_regularize as kr

    kr.layers.inverse_form_network(tile_size=32, units=[64, 16]).output_shape  # (None, 4)
    ```

    Reference: Shubhankar Borse and others, *InverseForm: A Loss Function for Structured Boundary-Aware
    Segmentation*, CVPR 2021, arXiv:2104.02745.
    """
    size = check_integer("tile_size", tile_size, minimum=1)
    maps = [keras.Input((size, size, 1), name=name) for name in ("prediction", "target")]
    x = keras.layers.Flatten()(keras.layers.Concatenate()(maps))
    for number in units:
        x = keras.layers.Dense(check_integer("units", number, minimum=1), activation="relu")(x)
    return keras.Model(maps, keras.layers.Dense(4)(x), name="inverse_form_network")


@export
def train_inverse_form(
    network: keras.Model,
    boundaries: Any,
    epochs: int = 10,
    batch_size: int = 32,
    strength: float = 0.3,
    seed: int | None = None,
) -> list[float]:
    """Trains the network of `layers.InverseForm`, on boundaries and what random linear maps make of them.

    In every epoch each boundary is moved around its centre by a matrix anew, the identity and numbers between
    `-strength` and `strength`, which the network is to find out by squared error. Its own optimizer trains it if
    it is compiled, else Adam.

    Args:
        network: The network, not yet part of a layer, which would have frozen it.
        boundaries: Maps `(number, tile, tile)` or `(number, tile, tile, 1)` of 0 and 1, such as tiles of those of
            the training data.
        epochs: Number of epochs.
        batch_size: Samples per step.
        strength: The largest change of an entry of the matrix, above 0.
        seed: Seed of the matrices.

    Returns:
        The mean squared error of each epoch, to be compared with `strength**2 / 3`, that of a network that always
        gives 0.

    Raises:
        ValueError: If an argument is out of its range, or the network or shapes do not fit.

    Cost: a forward-backward pass of the network per boundary and epoch.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    network = kr.layers.inverse_form_network(tile_size=8, units=[16])
    errors = kr.layers.train_inverse_form(network, np.random.randint(0, 2, size=(16, 8, 8)), epochs=2)
    ```

    Reference: Shubhankar Borse and others, *InverseForm: A Loss Function for Structured Boundary-Aware
    Segmentation*, CVPR 2021, arXiv:2104.02745.
    """
    size, strength = (
        _tile_size(network),
        check_number("strength", strength, above=0, below=math.inf),
    )
    boundaries = upcast(boundaries)
    if len(boundaries.shape) == 3:
        boundaries = boundaries[..., None]
    if not network.trainable or tuple(boundaries.shape[1:]) != (size, size, 1):
        raise ValueError(
            f"Expected a network that is not frozen, and boundaries (number, {size}, {size}, 1). "
            f"Received: network.trainable={network.trainable}, boundaries.shape={tuple(boundaries.shape)}"
        )
    if not network.compiled:
        network.compile("adam", "mse")
    generator, errors = keras.random.SeedGenerator(seed), []
    for _ in range(check_integer("epochs", epochs, minimum=1)):
        change = keras.random.uniform(
            (boundaries.shape[0], 4), -strength, strength, boundaries.dtype, seed=generator
        )
        moved = moved_boundaries(boundaries, change)
        data = [ops.convert_to_numpy(x) for x in (moved, boundaries, change)]
        history = network.fit(data[:2], data[2], batch_size=batch_size, verbose=0).history
        errors.append(float(history["loss"][0]))
    return errors


def moved_boundaries(boundaries, change):
    """Maps `(number, tile, tile, 1)` moved by the identity plus `change (number, 4)` around their centres."""
    centre = (boundaries.shape[1] - 1) / 2
    a, b, c, d = (change[:, i] for i in range(4))
    zero = ops.zeros_like(a)
    # The centre stays where it is.
    rows = [a + 1.0, b, -centre * (a + b), c, d + 1.0, -centre * (c + d), zero, zero]
    return ops.image.affine_transform(
        boundaries, ops.stack(rows, axis=-1), "bilinear", data_format="channels_last"
    )


def _tile_size(network):
    """The side of the tiles of a network of two of them with four outputs."""
    shapes = getattr(network, "input_shape", None), getattr(network, "output_shape", None)
    maps = list(shapes[0]) if isinstance(shapes[0], (list, tuple)) else []
    size = maps[0][1] if len(maps) == 2 and len(maps[0] or ()) == 4 else None
    if (
        size is None
        or {tuple(m) for m in maps} != {(None, size, size, 1)}
        or shapes[1] != (None, 4)
    ):
        raise ValueError(
            "`network` must be a built `keras.Model` of two maps (tile, tile, 1) with four outputs. "
            f"Received: network={network!r} with input_shape={shapes[0]}, output_shape={shapes[1]}"
        )
    return size
