"""What features of each label look like: a path that is to be long and even."""

from typing import Any

import keras
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.configuration import Configured
from keras_regularize.layers._losses import add_float_loss
from keras_regularize.layers.heads.labels import features_and_labels, features_shape
from keras_regularize.losses import (
    enveloping_loss,
    homogeneity_loss,
    surrogate_contrastive_loss,
)
from keras_regularize.numerics import matmul, mean, unit_vectors
from keras_regularize.ops.points import feature_rows
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
class SurrogateRepresentation(Configured, keras.layers.Layer):
    r"""Keeps rare labels of a regression apart: what features look like, label by label, is a long and even path.

    The layer hands the features on as they are. It stores a representation for each bin of labels; in training, a
    bin that occurs in the batch is represented by the mean of its unit features, with gradient, the others by what
    is stored. For this path $u$, in the order of labels, it adds to the loss

    $$w_1\, \frac1B \sum_i \ell_{\mathrm{con}}(z_i, u) + w_2\, \ell_{\mathrm{env}}(u) + w_3\,
    \ell_{\mathrm{hom}}(u),$$

    see `kr.losses.surrogate_contrastive_loss`, `kr.losses.enveloping_loss` and `kr.losses.homogeneity_loss`, where
    the distance of labels is counted in bins. The authors' tasks: STS-B $(10^{-4}, 10^{-2}, 10^{-4})$, ages
    $(10, 100, 10^{-2})$ with $\tau = 0.3$ and momentum 0.

    `end_epoch` ends an epoch: the stored representation $S$ of each bin that occurred in it becomes $\beta S + (1
    - \beta) \hat S$, with the mean $\hat S$ over the epoch; the first time it is the mean. Before the first call,
    and for bins that no epoch has seen, there is no representation, and they are left out of all three
    terms: the first epoch trains on the loss of the regression alone. `kr.models.SRL` feeds the labels and ends
    the epochs. On several TensorFlow replicas, or in training in several processes of PyTorch, $\hat S$ is of the
    samples of all of them, but each has a path of its own samples.

    Args:
        num_bins: Number of bins $L \ge 2$.
        feature_dim: Width of a learnt projection by a dense layer, of which the path is made; `None` for the
            features themselves.
        num_points: $P$, number of fixed directions, at least 1.
        contrastive_factor: $w_1 \ge 0$.
        enveloping_factor: $w_2 \ge 0$.
        homogeneity_factor: $w_3 \ge 0$.
        temperature: $\tau > 0$.
        momentum: $0 \le \beta < 1$.
        seed: Of the directions.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Attributes:
        surrogates: The stored representations, `(num_bins, dim)`.
        seen: 1 for each bin that has one, else 0.

    Input: `[features, bins]`, where features are `(batch, …)`, flattened for the path, and bins integers
    `(batch,)` or `(batch, 1)`, as of `kr.utils.bin_labels`; a negative one leaves its sample out. Without labels,
    `[features, None]` or the features alone. Output: the features.

    Raises:
        ValueError: If an argument is out of its range, or in training without labels.

    Cost: matrix products of the path with the features and the directions, `(batch + num_points) · num_bins ·
    dim`.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x = keras.Input((8,))
    bins = keras.Input((), dtype="int32", optional=True)
    features = keras.layers.Dense(16, activation="relu")(x)
    layer = kr.layers.SurrogateRepresentation(10, feature_dim=8)
    model = keras.Model([x, bins], keras.layers.Dense(10)(layer([features, bins])))
    model = kr.models.WithLabels(model)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    ends = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: layer.end_epoch())
    y = np.random.randint(0, 10, size=64)
    model.fit(np.random.normal(size=(64, 8)), y, epochs=2, callbacks=[ends], verbose=0)
    ```

    Reference: Zijian Dong, Yilei Wu, Chongyao Chen, Yingtian Zou, Yichi Zhang and Juan Helen Zhou, *Improve
    Representation for Imbalanced Regression through Geometric Constraints*, CVPR 2025, arXiv:2503.00876.
    """

    def __init__(
        self,
        num_bins: int,
        feature_dim: int | None = None,
        num_points: int = 1000,
        contrastive_factor: float = 1e-4,
        enveloping_factor: float = 1e-2,
        homogeneity_factor: float = 1e-4,
        temperature: float = 0.1,
        momentum: float = 0.9,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_bins = check_integer("num_bins", num_bins, minimum=2)
        self.feature_dim = check_integer("feature_dim", feature_dim, minimum=1, optional=True)
        self.num_points = check_integer("num_points", num_points, minimum=1)
        self.contrastive_factor = check_number("contrastive_factor", contrastive_factor, minimum=0)
        self.enveloping_factor = check_number("enveloping_factor", enveloping_factor, minimum=0)
        self.homogeneity_factor = check_number("homogeneity_factor", homogeneity_factor, minimum=0)
        self.temperature = check_number("temperature", temperature, above=0)
        self.momentum = check_number("momentum", momentum, minimum=0, below=1)
        self.seed = check_integer("seed", seed, optional=True)
        self.autocast = False  # Labels stay exact, and the path is computed in full precision.

    def build(self, input_shape: Any) -> None:
        shape = features_shape(input_shape)
        dim = 1
        for size in shape[1:]:
            if size is None:
                raise ValueError(
                    "`SurrogateRepresentation` needs features of a known size. "
                    f"Received: shape={shape}"
                )
            dim *= size
        if self.feature_dim is not None:
            self.kernel = self.add_weight((dim, self.feature_dim), "glorot_uniform", name="kernel")
            self.bias = self.add_weight((self.feature_dim,), "zeros", name="bias")
            dim = self.feature_dim
        options = {"trainable": False, "autocast": False, "dtype": "float32"}
        directions = keras.initializers.RandomNormal(stddev=1.0, seed=self.seed)
        self.points = self.add_weight((self.num_points, dim), directions, name="points", **options)
        self.surrogates = self.add_weight(
            (self.num_bins, dim), "zeros", name="surrogates", **options
        )
        self.seen = self.add_weight((self.num_bins,), "zeros", name="seen", **options)
        # Of the epoch that runs: the sum of the features of each bin, and their number.
        self.sums = self.add_weight((self.num_bins, dim + 1), "zeros", name="sums", **options)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        features, bins = features_and_labels(self, inputs, training, self.num_bins)
        if bins is not None:
            loss, sums = self.path_loss(features, ops.reshape(bins, (-1,)))
            add_float_loss(self, loss)
            self.collect(sums)
        return ops.cast(features, self.compute_dtype)

    def path_loss(self, features: Any, bins: Any, projection: Any = None) -> tuple[Any, Any]:
        """The three terms for features and bins `(batch,)`, and what `collect` takes.

        `projection` are values of kernel and bias, in the place of the layer's own.
        """
        rows = feature_rows(features)
        if self.feature_dim is not None:
            kernel, bias = projection or (self.kernel, self.bias)
            rows = matmul(rows, ops.cast(ops.convert_to_tensor(kernel), rows.dtype))
            rows = rows + ops.cast(ops.convert_to_tensor(bias), rows.dtype)
        rows = ops.cast(unit_vectors(rows), "float32")
        bins = ops.cast(bins, "int32")
        member = ops.equal(bins[:, None], ops.arange(self.num_bins, dtype="int32")[None, :])
        counted = ops.any(member, axis=1)
        rows = ops.where(counted[:, None], rows, 0.0)
        member = ops.cast(member, "float32")
        counts = ops.sum(member, axis=0)[:, None]
        sums = matmul(ops.transpose(member), rows)
        own = sums / ops.where(counts > 0, counts, 1.0)
        stored = ops.convert_to_tensor(self.surrogates)
        trace = unit_vectors(ops.where(counts > 0, own, ops.stop_gradient(stored)))
        seen = ops.convert_to_tensor(self.seen) > 0
        contrast = surrogate_contrastive_loss(
            rows, ops.where(counted, bins, 0), trace, self.temperature, seen
        )
        loss = (
            self.contrastive_factor * mean(ops.where(counted, contrast, 0.0))
            + self.enveloping_factor * enveloping_loss(trace, self.points, seen)
            + self.homogeneity_factor * homogeneity_loss(trace, mask=seen)
        )
        return loss, ops.stop_gradient(ops.concatenate([sums, counts], axis=1))

    def collect(self, sums: Any) -> None:
        """Adds what `path_loss` found, on all replicas, to the sums of the epoch."""
        sums = ops.sum(backend.gather_over_replicas([sums[None]])[0], axis=0)
        finite = ops.all(ops.isfinite(sums), axis=1, keepdims=True)
        self.sums.assign(self.sums + ops.where(finite, sums, 0.0))

    def end_epoch(self) -> None:
        """Moves the stored representations to those of the epoch, and begins another."""
        sums = ops.convert_to_tensor(self.sums)
        means, present = sums[:, :-1], sums[:, -1:] > 0
        means = unit_vectors(means / ops.where(present, sums[:, -1:], 1.0))
        stored, seen = ops.convert_to_tensor(self.surrogates), ops.convert_to_tensor(self.seen)
        moved = self.momentum * stored + (1.0 - self.momentum) * means
        moved = ops.where(seen[:, None] > 0, moved, means)
        self.surrogates.assign(ops.where(present, moved, stored))
        self.seen.assign(ops.where(present[:, 0], 1.0, seen))
        self.sums.assign(ops.zeros_like(sums))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return features_shape(input_shape)
