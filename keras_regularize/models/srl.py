"""Regression with few samples of some labels, whose features get a place of their own."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.autodiff.functional import resolve_weights
from keras_regularize.layers import SurrogateRepresentation
from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.registration import export
from keras_regularize.utils.bins import check_edges


@export
class SRL(RegularizedModel):
    r"""Trains a regression whose labels are unevenly frequent, by the geometry of its features.

    A network for regression spends its features on the labels that are frequent. With the bins of the labels and
    the features $z$ of one layer, each step minimizes

    $$L + w_1\, \ell_{\mathrm{con}} + w_2\, \ell_{\mathrm{env}} + w_3\, \ell_{\mathrm{hom}},$$

    the compiled loss and the three terms of `kr.layers.SurrogateRepresentation`, which make the mean features of
    the bins, in the order of labels, a path that is long, evenly passed, and near to the features themselves. The
    first epoch of `fit` trains on the compiled loss alone and collects these means; every epoch after moves them.
    In a loop of your own, call `model.representation.end_epoch()`. `predict` and `evaluate` are those of the model
    inside.

    On several TensorFlow replicas, or in several processes of PyTorch, the means are those of all samples, but the
    path of a step passes through those that one of them has.

    Samples of weight 0 and labels that are no number are left out of the terms. They depend on the scale of no
    label, but the compiled loss does: choose $w$ by it. `kr.metrics.ShotMAE` shows what became of the rare labels:
    look at it. The authors report lower errors there with deep networks; with small dense ones, on turned digits
    whose angles have a long tail, the path became longer and the errors did not fall.

    Args:
        model: The model to train, or another wrapper; with a single label per sample.
        feature_layer: Name or number of the layer, or the layer, whose outputs are the features.
        edges: Ascending edges of at least two bins of labels, such as those of `kr.utils.bin_edges`.
        feature_dim: Width of a learnt projection of the features, of which the path is made; `None` for none.
        num_points: Number of fixed directions that the path is to come near.
        contrastive_factor: $w_1 \ge 0$.
        enveloping_factor: $w_2 \ge 0$.
        homogeneity_factor: $w_3 \ge 0$.
        temperature: Of the contrastive term, above 0.
        momentum: Of the stored means, at least 0 and below 1.
        seed: Of the directions.
        **kwargs: `name` and other arguments of `keras.Model`.

    Attributes:
        representation: The `kr.layers.SurrogateRepresentation`.

    Raises:
        ValueError: If an argument is out of range, labels are missing, or the layer is not there or has no single
            output of known size.

    Cost: one forward-backward pass per step and `(batch + num_points) · bins · dim` operations.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(256, 8)), np.random.exponential(size=256)
    net = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(32, "relu", name="features"), keras.layers.Dense(1)]
    )
    model = kr.models.SRL(net, "features", kr.utils.bin_edges(y, 20), feature_dim=16)
    model.compile("adam", "mae")
    model.fit(x, y, epochs=3, verbose=0)
    ```

    Reference: Zijian Dong, Yilei Wu, Chongyao Chen, Yingtian Zou, Yichi Zhang and Juan Helen Zhou, *Improve
    Representation for Imbalanced Regression through Geometric Constraints*, CVPR 2025, arXiv:2503.00876.
    """

    def __init__(
        self,
        model: keras.Model,
        feature_layer: Any,
        edges: Sequence[float],
        feature_dim: int | None = 128,
        num_points: int = 1000,
        contrastive_factor: float = 1e-4,
        enveloping_factor: float = 1e-2,
        homogeneity_factor: float = 1e-4,
        temperature: float = 0.1,
        momentum: float = 0.9,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(model, **kwargs)
        self.feature_layer = getattr(feature_layer, "name", feature_layer)
        self.edges = check_edges(edges)
        self.feature_dim, self.num_points = feature_dim, num_points
        self.contrastive_factor, self.enveloping_factor = contrastive_factor, enveloping_factor
        self.homogeneity_factor, self.temperature = homogeneity_factor, temperature
        self.momentum, self.seed = momentum, seed
        names = ("feature_dim", "num_points", "temperature", "momentum", "seed")
        factors = ("contrastive_factor", "enveloping_factor", "homogeneity_factor")
        self.representation = SurrogateRepresentation(
            len(self.edges) - 1,
            **{name: getattr(self, name) for name in (*names, *factors)},
            dtype="float32",
            name="representation",
        )

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        outputs = super().call(inputs, training, mask)
        self.build_parts()  # Now the layers inside are connected.
        return outputs

    def build_parts(self):
        if not self.representation.built:
            layer = self._layer()
            shape = getattr(getattr(layer, "output", None), "shape", None)
            if shape is None or len(shape) < 2 or isinstance(layer, keras.layers.InputLayer):
                raise ValueError(
                    "`feature_layer` must be a layer of a functional or sequential model with a single output "
                    "(batch, …), and not its input. "
                    f"Received: feature_layer={self.feature_layer!r}, which is {layer}"
                )
            self.representation.build(tuple(shape))

    def check_data(self, x, y):
        super().check_data(x, y)
        if y is None:
            raise ValueError("`SRL` needs labels `y`. Received: y=None")

    def objective(self, batch, forward):
        layer = self._layer()
        forward.watch([layer])
        loss, values = super().objective(batch, forward)
        features = forward.layer_outputs_at(batch.x, [layer])[0][-1]
        layer = self.representation
        projection = [forward.weight(v) for v in layer.trainable_variables]
        bins = self._bins(batch, forward.outputs)
        added, sums = layer.path_loss(features, bins, projection)
        return loss + ops.cast(added, loss.dtype), {**values, self.key: sums}

    def after_update(self, batch, aux, gradients):
        super().after_update(batch, aux, gradients)
        self.representation.collect(aux.values[self.key])

    def training_callbacks(self):
        ends = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: self.representation.end_epoch()
        )
        return [ends]

    def _layer(self):
        by = "index" if isinstance(self.feature_layer, int) else "name"
        return self.innermost.get_layer(**{by: self.feature_layer})

    def _bins(self, batch, outputs):
        """Bins `(batch,)` of the labels, -1 for what does not count."""
        y = ops.cast(ops.convert_to_tensor(batch.y), "float32")
        if len(y.shape) == 2 and y.shape[1] == 1:
            y = ops.squeeze(y, -1)
        if len(y.shape) != 1:
            raise ValueError(
                "`SRL` needs one label per sample, `(batch,)` or `(batch, 1)`. "
                f"Received: shape={tuple(batch.y.shape)}"
            )
        inner = ops.convert_to_tensor(np.asarray(self.edges[1:-1], "float32"))
        bins = ops.sum(ops.cast(y[:, None] >= inner[None, :], "int32"), axis=1)
        counted = ops.isfinite(y)
        weights = resolve_weights(batch, outputs)
        if weights is not None:
            weights = ops.reshape(ops.convert_to_tensor(weights), (ops.shape(y)[0], -1))
            counted = ops.logical_and(counted, ops.any(ops.not_equal(weights, 0), axis=1))
        return ops.where(counted, bins, -1)
