"""Elastic quantization: one network that works at any of several bit widths."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops, tree

from keras_regularize.layers import ElasticQuantized, calibrate_quantizers
from keras_regularize.layers.quantization.elastic_quantized import check_bit_widths
from keras_regularize.layers.reparameterization.kernels import kernels_of
from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.numerics import kl_divergence
from keras_regularize.registration import export
from keras_regularize.regularizers.weight_distribution import weight_distribution
from keras_regularize.scores import (
    class_log_probabilities,
    class_outputs,
    gives_logits,
    sample_mean,
)
from keras_regularize.utils.variables import layers_of
from keras_regularize.validation import check_integer, check_number

_WRAPPED = (
    layers.Dense,
    layers.Conv1D,
    layers.Conv2D,
    layers.Conv3D,
    layers.DepthwiseConv1D,
    layers.DepthwiseConv2D,
)


@export
class ElasticQuantization(RegularizedModel):
    r"""Trains one classifier for all bit widths at once, to pick the bits of every layer after training.

    In every step $m$ subnets of the shared weights predict the batch: the biggest, with the most bits
    everywhere, $m - 2$ of random bits in every layer, and the smallest. The biggest learns from the labels, each
    later one also from the one before it (group progressive guidance):

    $$L = \ell(y, f_1) + \sum_{k=2}^{m} \big[\alpha\,\mathrm{KL}(\bar p_{k-1} \,\|\, p_k) +
    (1 - \alpha)\,\ell(y, f_k)\big] + \frac{\lambda}{N} \sum_{n} R(W_n),$$

    with $p_k$ the probabilities of subnet $k$, a bar where no gradient flows, and $R$ the weight distribution
    regularization $0.015 (K - 1.8)^2 + S^2$ on the kurtosis $K$ and the skewness $S$ of the kernels of all
    quantized layers but the first. Whether kernels and inputs have an offset, and whether steps are per output
    unit, is drawn for each subnet. In random and smallest subnets the first and the last layer keep the most
    bits.

    A functional or `Sequential` model of plain layers is copied, with its weights, and every dense and
    convolutional layer put into an `ElasticQuantized`; `model.model` is that network. A model that has such
    layers already is trained itself. Then:

    1. `model.calibrate(x)` sets the ranges of activations from a batch;
    2. `fit`; the authors use Adam at 1e-3 with a cosine schedule for 120 epochs and clip every entry of the
       gradient: `keras.optimizers.Adam(1e-3, clipvalue=1.0)`;
    3. `model.select(weight_bits=4, input_bits=4)` picks a subnet for `evaluate`, `predict` and `export`, and
       `model.recalibrate_batch_norm(x)` estimates its batch statistics, which differ between subnets.
       `kr.hyper.search_bits` looks for the best bits of every layer.

    Args:
        model: The classifier to train, with one output, or another wrapper around a network of
            `ElasticQuantized` layers.
        bits: Bit widths, ascending, 2 to 16.
        subnets: $m \ge 2$.
        alpha: $\alpha \in [0, 1]$; or a schedule.
        distribution_factor: $\lambda \ge 0$; or a schedule.
        seed: Seed of the subnets.
        from_logits: Whether the model gives out logits; `None` asks the compiled loss, or without one the
            last layer.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range, or no layer can be quantized.

    Cost: $m$ forward-backward passes per step.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    net = keras.Sequential([
        keras.Input((6,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(3)
    ])
    model = kr.models.ElasticQuantization(net, bits=(2, 8), subnets=2)
    x, y = np.random.default_rng(0).normal(size=(32, 6)), np.arange(32) % 3
    model.calibrate(x)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3, clipvalue=1.0), loss)
    model.fit(x, y, verbose=0)
    model.select(weight_bits=2, input_bits=8)
    ```

    Reference: Xu, Han, Tian, Yang and Zhang, *EQ-Net: Elastic Quantization Neural Networks*, ICCV 2023,
    arXiv:2308.07650. The authors' code takes the absolute value of offsets, which turns negative ones around;
    here they keep their sign.
    """

    def __init__(
        self,
        model: keras.Model,
        bits: Sequence[int] = (2, 3, 4, 5, 6, 7, 8),
        subnets: int = 3,
        alpha: Any = 0.5,
        distribution_factor: Any = 1.0,
        seed: int | None = None,
        from_logits: bool | None = None,
        **kwargs: Any,
    ):
        bits = check_bit_widths(bits)
        if isinstance(model, keras.Model) and not isinstance(model, RegularizedModel):
            if not _elastic_layers(model):
                model = _elastic_copy(model, bits)
        super().__init__(model, **kwargs)
        self.bits = bits
        self.subnets = check_integer("subnets", subnets, minimum=2)
        self.alpha = check_number("alpha", alpha, minimum=0, maximum=1, schedule=True)
        self.distribution_factor = check_number(
            "distribution_factor", distribution_factor, minimum=0, schedule=True
        )
        self.seed = seed
        self.from_logits = None if from_logits is None else bool(from_logits)
        self.seed_generator = keras.random.SeedGenerator(seed)
        found = self.elastic_layers()
        if not found or any(layer.bits != bits for layer in found):
            raise ValueError(
                f"`model` must have layers `ElasticQuantized(…, bits={tuple(bits)})`, or be a functional or "
                "Sequential model of dense or convolutional layers. Received: "
                f"{model.name!r} with elastic layers of {[layer.bits for layer in found]} bits"
            )

    def elastic_layers(self) -> list[ElasticQuantized]:
        """The quantized layers in the order of the model."""
        return _elastic_layers(self.innermost)

    def calibrate(self, x: Any) -> None:
        """Sets the ranges of all layers and bit widths from a batch; see `kr.layers.calibrate_quantizers`."""
        calibrate_quantizers(self.innermost, x)

    def select(
        self,
        weight_bits: int | Sequence[int],
        input_bits: int | Sequence[int],
        symmetric: bool = True,
        per_channel: bool = True,
        symmetric_inputs: bool = True,
    ) -> None:
        """Picks the subnet that predicts from now on; it stays picked during training.

        Args:
            weight_bits: Bits of the kernels, one number, or one for each of `elastic_layers()`.
            input_bits: Bits of the inputs of these layers, likewise.
            symmetric: Whether kernels have no offset.
            per_channel: Whether output units have steps of their own.
            symmetric_inputs: Whether inputs have no offset.

        Raises:
            ValueError: If there are not as many numbers as layers, or one is not among `bits`.
        """
        found = self.elastic_layers()
        columns = []
        value: Any
        for name, value in (("weight_bits", weight_bits), ("input_bits", input_bits)):
            values = [value] * len(found) if np.ndim(value) == 0 else list(value)
            if len(values) != len(found):
                raise ValueError(
                    f"`{name}` must be one number or {len(found)}, one per layer. Received: {value!r}"
                )
            columns.append([int(entry) for entry in values])
        for layer, weights, inputs in zip(found, *columns):
            layer.select(weights, inputs, symmetric, per_channel, symmetric_inputs)

    def recalibrate_batch_norm(self, x: Any, batch_size: int = 128) -> None:
        """Replaces the statistics of batch normalization by their mean over batches, for the picked subnet.

        Args:
            x: Inputs as arrays.
            batch_size: Samples in a batch.
        """
        found = [v for v in layers_of(self.innermost) if isinstance(v, layers.BatchNormalization)]
        momenta = [layer.momentum for layer in found]
        rows = len(tree.flatten(x)[0])
        try:
            for number, start in enumerate(range(0, rows, batch_size)):
                for layer in found:
                    layer.momentum = number / (number + 1.0)  # A running mean.
                part = tree.map_structure(
                    lambda a, s=start: ops.convert_to_tensor(a[s : s + batch_size]), x
                )
                self.innermost(part, training=True)
        finally:
            for layer, momentum in zip(found, momenta):
                layer.momentum = momentum

    def check_loss(self, model):
        super().check_loss(model)
        gives_logits(model)

    def prepare(self, batch, forward):
        batch = super().prepare(batch, forward)
        found = self.elastic_layers()
        most, count = len(self.bits) - 1, len(found)
        draws = keras.random.randint(
            (self.subnets, count, 2), 0, most + 1, dtype="int32", seed=self.seed_generator
        )
        # Position of the bits of subnet, layer: the first subnet and the ends of all have the most.
        lowest = np.zeros((self.subnets, count, 1), "int32")
        lowest[0] = lowest[:, [0, -1]] = most
        random = np.ones((self.subnets, 1, 1), "int32")
        random[-1] = 0
        positions = ops.maximum(
            draws * ops.convert_to_tensor(random), ops.convert_to_tensor(lowest)
        )
        flags = keras.random.randint(
            (self.subnets, 1, 3), 0, 2, dtype="int32", seed=self.seed_generator
        )
        flags = ops.broadcast_to(flags, (self.subnets, count, 3))
        choices = ops.concatenate([positions, flags], axis=-1)
        picked = [ops.copy(layer.choice.value) for layer in found]
        for i, layer in enumerate(found):
            layer.choice.assign(choices[0, i])
        return batch.add(**{self.key: (choices, picked)})

    def objective(self, batch, forward):
        loss, values = super().objective(batch, forward)
        found = self.elastic_layers()
        choices, _ = batch.extra[self.key]
        from_logits, alpha = gives_logits(forward), self.scheduled(self.alpha, batch)
        teacher = forward.outputs
        for k in range(1, self.subnets):
            chosen = [(layer.choice, choices[k, i]) for i, layer in enumerate(found)]
            outputs = forward.with_values(chosen)(batch.x, training=True)
            targets, scores = (
                class_log_probabilities(class_outputs(entry, forward), from_logits)
                for entry in (teacher, outputs)
            )
            guidance = kl_divergence(ops.stop_gradient(targets), scores)
            guidance = sample_mean(forward, guidance, batch)
            own = forward.sample_mean(forward.sample_losses(batch.y, outputs), batch)
            term = alpha * guidance + (1.0 - alpha) * ops.cast(own, guidance.dtype)
            loss = loss + ops.cast(term, loss.dtype)
            teacher = outputs
        kernels = [k for layer in found[1:] for k in kernels_of(layer) if k.trainable]
        if self.distribution_factor != 0 and kernels:
            terms = [weight_distribution(forward.weight(kernel)) for kernel in kernels]
            factor = self.scheduled(self.distribution_factor, batch)
            loss = loss + ops.cast(factor * sum(terms) / len(terms), loss.dtype)
        return loss, values

    def gradients(self, objective, weights, batch):
        # Also where the step is not taken in the end. The passes see the choices that it began with.
        self._restore(batch)
        return super().gradients(objective, weights, batch)

    def after_update(self, batch, aux, gradients):
        super().after_update(batch, aux, gradients)
        self._restore(batch)

    def _restore(self, batch):
        for layer, choice in zip(self.elastic_layers(), batch.extra[self.key][1]):
            layer.choice.assign(choice)


def _elastic_layers(model):
    return [layer for layer in layers_of(model) if isinstance(layer, ElasticQuantized)]


def _elastic_copy(model, bits):
    """The model with its dense and convolutional layers quantized, and the same weights."""
    if not model.built or not hasattr(model, "inputs"):
        raise ValueError(
            "`model` must be a built functional or Sequential model, or consist of `ElasticQuantized` layers. "
            f"Received: {model!r}"
        )
    pairs = []

    def wrapped(layer):
        copy = type(layer).from_config(layer.get_config())
        pairs.append((layer, copy))
        return ElasticQuantized(copy, bits) if isinstance(layer, _WRAPPED) else copy

    copy = keras.models.clone_model(model, clone_function=wrapped)
    for old, new in pairs:
        new.set_weights(old.get_weights())
    return copy
