"""A manifold learnt by several autoencoders, each of which knows a part of it."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.autodiff.compiled_losses import masked_sample_mean
from keras_regularize.losses.probabilistic.mixture_vae import (
    mixture_vae_loss,
    shares,
    weighted_elbos,
)
from keras_regularize.losses.probabilistic.vae import squared_errors
from keras_regularize.models.autoencoders._reconstructing import Reconstructing
from keras_regularize.models.autoencoders.charts import PairChart
from keras_regularize.numerics import as_float, maximum, upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number, compatible

_FLAT, _EDGE, _RATE = 0.8, 0.05, 100.0  # Of the density of codes.
_SLOPE = (1.0 - _EDGE) / (1.0 - _FLAT)
_OVERLAP = 1.5
_LEAST_LOG_WEIGHT = -25.0
_CANDIDATES, _NEAREST = 100, 100


@export
class MixtureVAE(Reconstructing):
    r"""Learns a manifold of any topology by a mixture of autoencoders, each with a chart of a part of it.

    A single autoencoder with codes of $d$ dimensions cannot cover a circle or a sphere without a tear. Here $K$
    charts $(E_k, D_k)$ with the bounds

    $$\ell_k(x) = \mathcal E(z) + \frac{\|x - D_k(z)\|^2}{2 \sigma_x^2} - d \log \sigma_z,
      \qquad z = E_k(x) + \sigma_z \epsilon,$$

    share the data by `kr.generative.mixture_vae_loss` with weights $\alpha_k$. $\mathcal E$ is the energy of a
    density of codes that is flat for $|z_j| \le 0.8$ and falls linearly to 0.05 at $|z_j| = 1$, beyond which it
    decays fast. `fit(x)` runs three phases:

    1. `pretrain_epochs` on few points: centres are picked from 100 candidates, of whose closest pairs one is
       dropped in turn, and each chart learns the 100 points nearest to its own.
    2. the mixture, with equal $\alpha_k$; in the first `lipschitz_epochs` with the mean of
       $w\, \|D_k(z) - D_k(z + \sigma_z \epsilon)\|^2 / \sigma_x^2$ over codes $z$ of the density, so that a chart
       does not stretch far.
    3. from epoch `train_weights_after` on, the charts with responsibilities that stay as they are. These are
       computed once for all data, as if each chart's codes were 1.5 times as large, but for points that no other
       chart explains; $\alpha_k$ is their mean. Charts so come to overlap where one ends and another begins.

    Phases are parts of one `fit`, whose epochs are those of 2 and 3; a model that was trained skips 1.
    Responsibilities belong to the rows of an array: phases 1 and 3 need one.

    `predict(x)` gives points of the manifold, $\sum_k w_k(x)\, D_k(E_k(x))$, `responsibilities(x)` the $w_k$,
    `sample(n)` new points. The model itself gives $\ell$, `(batch, charts)`, without noise but in training.
    `kr.inverse.manifold_descent` solves inverse problems on what was learnt. Pass the optimizer a `clipnorm`: the
    authors take 2, and Adam with the rate 1e-4.

    Args:
        charts: At least one: models with `encode(x)` and `decode(z)` such as `kr.generative.invertible_chart`
            makes, or pairs of an encoder and a decoder; codes are `(batch, d)`.
        encoder_noise: $\sigma_z > 0$.
        decoder_noise: $\sigma_x > 0$.
        train_weights_after: Epoch from which the responsibilities stay, at least 0, or `None` for never.
        lipschitz_weight: $w \ge 0$.
        lipschitz_epochs: At least 0.
        pretrain_epochs: Epochs of the first phase, at least 0. The authors take 500 to 2000.
        seed: Integer seed of the draws and of the candidates, or None.
        **kwargs: `name` and other arguments of `keras.Model`.

    Input: data `(batch, …)`, floats. Output: $\ell$, `(batch, charts)`.

    Raises:
        ValueError: If an argument is out of range, a loss is compiled, `y` is passed, a phase needs an array, or
            shapes do not fit.

    Cost: $K$ passes of encoder and decoder; with the Lipschitz term three of the decoder.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    angle = np.random.uniform(0, 2 * np.pi, 256)
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype("float32")
    charts = [kr.generative.invertible_chart(2, 1, blocks=2) for _ in range(2)]
    model = kr.models.MixtureVAE(charts, pretrain_epochs=2)
    model.compile("adam")
    model.fit(x, verbose=0)
    points = model.predict(x, verbose=0)
    ```

    Reference: Giovanni S. Alberti, Johannes Hertrich, Matteo Santacesaria and Silvia Sciutto, *Manifold Learning
    by Mixture Models of VAEs for Inverse Problems*, JMLR 2024, arXiv:2303.15244; phases and constants as in the
    authors' code, whose optional flow of the codes is left out.
    """

    def __init__(
        self,
        charts: Sequence[Any],
        encoder_noise: float = 0.01,
        decoder_noise: float = 0.01,
        train_weights_after: int | None = None,
        lipschitz_weight: float = 1.0,
        lipschitz_epochs: int = 50,
        pretrain_epochs: int = 500,
        seed: int | None = None,
        **kwargs: Any,
    ):
        if not isinstance(charts, (list, tuple)) or not charts:
            raise ValueError(
                f"`charts` must be a list of at least one. Received: charts={charts!r}"
            )
        super().__init__(**kwargs)
        self.charts = [_chart(chart) for chart in charts]
        self.encoder_noise = check_number("encoder_noise", encoder_noise, above=0)
        self.decoder_noise = check_number("decoder_noise", decoder_noise, above=0)
        self.train_weights_after = check_integer(
            "train_weights_after", train_weights_after, minimum=0, optional=True
        )
        self.lipschitz_weight = check_number("lipschitz_weight", lipschitz_weight, minimum=0)
        self.lipschitz_epochs = check_integer("lipschitz_epochs", lipschitz_epochs, minimum=0)
        self.pretrain_epochs = check_integer("pretrain_epochs", pretrain_epochs, minimum=0)
        self.seed = check_integer("seed", seed, optional=True)
        self.seed_generator = keras.random.SeedGenerator(seed)
        equal = keras.initializers.Constant(-math.log(len(self.charts)))
        self.log_weights = self._kept("log_weights", (len(self.charts),), equal)
        self.pretrained = self._kept("pretrained", (), "zeros")
        self._lipschitz = False
        self._dimensions: tuple[int, ...] = ()  # Of the charts' codes.

    def _kept(self, name, shape, initializer):
        return self.add_weight(
            shape=shape,
            initializer=initializer,
            trainable=False,
            dtype="float32",
            autocast=False,
            name=name,
        )

    # What was learnt

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        x = as_float(inputs)
        parts = [self._chart_pass(chart, x, training) for chart in self.charts]
        self._dimensions = tuple(codes.shape[-1] for _, codes, _ in parts)
        if training and self._lipschitz:
            self._add_lipschitz_loss(x)
        return ops.stack([elbo for elbo, _, _ in parts], axis=-1)

    def responsibilities(self, inputs: Any) -> Any:
        """How much of each point belongs to each chart, a tensor `(batch, charts)` of rows with the sum 1."""
        return shares(weighted_elbos(self(inputs, training=False), self.log_weights))

    def reconstruct(self, inputs: Any) -> Any:
        """Points of the manifold for data, a tensor in their shape."""
        x = as_float(inputs)
        parts = [self._chart_pass(chart, x, False) for chart in self.charts]
        elbos = ops.stack([elbo for elbo, _, _ in parts], axis=-1)
        weights = shares(weighted_elbos(elbos, self.log_weights))
        points = ops.stack([upcast(point) for _, _, point in parts], axis=-1)
        shape = (-1, *(1,) * (len(points.shape) - 2), len(parts))
        return ops.cast(ops.sum(points * ops.reshape(weights, shape), axis=-1), parts[0][2].dtype)

    def sample(self, num_samples: int, seed: int | None = None) -> Any:
        """New points of the manifold, a tensor `(num_samples, …)`; with a seed the same each time."""
        check_integer("num_samples", num_samples, minimum=0)
        if not self._dimensions:
            raise ValueError(
                "`sample` needs to know the shape of a code: call the model on data first."
            )
        random = np.random.default_rng(seed)
        weights = np.exp(ops.convert_to_numpy(self.log_weights).astype("float64"))
        counts = random.multinomial(num_samples, weights / weights.sum())
        points = []
        for chart, dimension, count in zip(self.charts, self._dimensions, counts):
            uniform = ops.convert_to_tensor(
                random.uniform(-1, 1, (count, dimension)), self.compute_dtype
            )
            points.append(ops.stop_gradient(chart.decode(_codes(uniform))))
        return ops.take(
            ops.concatenate(points, axis=0), random.permutation(num_samples).astype("int32"), axis=0
        )

    def _chart_pass(self, chart, x, training):
        """The bounds of a chart `(batch,)`, codes and reconstructions."""
        codes = chart.encode(x)
        if len(codes.shape) != 2 or codes.shape[-1] is None:
            raise ValueError(
                "A chart must give codes (batch, d) with a known d. "
                f"Received: codes of shape {tuple(codes.shape)}"
            )
        if training:
            codes = codes + self._noise(codes)
        points = chart.decode(codes)
        if not compatible(points.shape, x.shape):
            raise ValueError(
                "A chart must decode to the shape of the data. "
                f"Received: data of shape {tuple(x.shape)}, decoded to {tuple(points.shape)}"
            )
        squares, _ = squared_errors(x, points)
        constant = codes.shape[-1] * math.log(self.encoder_noise)
        elbo = _energy(codes) + squares / (2 * self.decoder_noise**2) - constant
        return elbo, codes, points

    def _noise(self, codes):
        noise = keras.random.normal(ops.shape(codes), dtype="float32", seed=self.seed_generator)
        return ops.cast(self.encoder_noise * noise, codes.dtype)

    def _add_lipschitz_loss(self, x):
        rows = ops.shape(x)[0]
        for chart, dimension in zip(self.charts, self._dimensions):
            uniform = keras.random.uniform(
                (rows, dimension), -1.0, 1.0, dtype="float32", seed=self.seed_generator
            )
            codes = ops.cast(_codes(uniform), self.compute_dtype)
            squares, _ = squared_errors(
                chart.decode(codes + self._noise(codes)), chart.decode(codes)
            )
            count = ops.cast(ops.maximum(rows, 1), squares.dtype)
            change = ops.sum(squares) / (count * self.decoder_noise**2)
            self.add_loss(ops.cast(self.lipschitz_weight * change, keras.config.floatx()))

    # Training

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        initial_epoch: int = 0,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """As `keras.Model.fit` without labels, in up to three phases.

        Callbacks are told of the begin and end of each. The history is that of the mixture and of fixed
        responsibilities.
        """
        if y is not None:
            raise ValueError(f"`{type(self).__name__}` takes no labels. Received: y={type(y)}")
        pretrains = self.pretrain_epochs > 0 and not float(
            ops.convert_to_numpy(self.pretrained.value)
        )
        last = epochs if self.train_weights_after is None else min(epochs, self.train_weights_after)
        if (pretrains or last < epochs) and not _is_array(x):
            raise ValueError(
                "Pretraining, and `train_weights_after`, need all data in one array. Without it pass "
                f"`pretrain_epochs=0, train_weights_after=None`. Received: {type(x).__name__}"
            )
        run = {"batch_size": batch_size, **kwargs}
        if pretrains:
            self._pretrain(np.asarray(x), batch_size, kwargs.get("verbose", "auto"))
        histories, begin = [], initial_epoch
        for end, lipschitz in ((min(last, self.lipschitz_epochs), True), (last, False)):
            if begin < end:
                self._change(lipschitz and self.lipschitz_weight > 0)
                histories.append(super().fit(x, epochs=end, initial_epoch=begin, **run))
                begin = end
        if last < epochs and begin < epochs:
            self._change(False)
            kept = self._overlapping(np.asarray(x), batch_size)
            least = np.exp(_LEAST_LOG_WEIGHT)
            self.log_weights.assign(np.log(np.maximum(kept.mean(axis=0), least)))
            histories.append(super().fit(x, kept, epochs=epochs, initial_epoch=begin, **run))
        if not histories:
            histories.append(super().fit(x, epochs=epochs, initial_epoch=begin, **run))
        self._change(False)
        return _joined(histories)

    def _change(self, lipschitz):
        """Traces the step anew where it changes."""
        if self._lipschitz != lipschitz:
            self._lipschitz = lipschitz
            self.train_function = None

    def _pretrain(self, x, batch_size, verbose):
        nearest = _nearest(x, len(self.charts), np.random.default_rng(self.seed))
        rows = np.flatnonzero(nearest.any(axis=1))
        self._change(False)
        super().fit(
            x[rows],
            nearest[rows],
            batch_size=batch_size,
            epochs=self.pretrain_epochs,
            verbose=verbose,
        )
        self.pretrained.assign(1.0)

    def _overlapping(self, x, batch_size):
        """Responsibilities `(n, charts)` of all data, with charts that reach further out."""
        batch_size = batch_size or 32
        parts = []
        for start in range(0, len(x), batch_size):
            rows = as_float(x[start : start + batch_size])
            passes = [self._chart_pass(chart, rows, False) for chart in self.charts]
            parts.append(
                [
                    np.stack([_array(p[0]) for p in passes], axis=-1),
                    np.stack(
                        [_array(_energy(_OVERLAP * p[1]) - _energy(p[1])) for p in passes], -1
                    ),
                ]
            )
        elbos, added = (np.concatenate(part).astype("float64") for part in zip(*parts))
        losses = elbos - _array(self.log_weights).astype("float64")
        # As if one chart after the other had larger codes: the most that a chart keeps.
        moved = losses[:, None] + added[:, None] * np.eye(len(self.charts))
        logs = _log_softmax(-moved).max(axis=1)
        return np.exp(_log_softmax(logs)).astype("float32")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if y is None:
            values = mixture_vae_loss(y_pred, self.log_weights)
        else:
            values = ops.sum(ops.cast(y, y_pred.dtype) * y_pred, axis=-1)
        loss = masked_sample_mean(values, values, sample_weight)
        return self.with_penalties(loss)

    def get_config(self) -> dict[str, Any]:
        names = (
            "encoder_noise",
            "decoder_noise",
            "train_weights_after",
            "lipschitz_weight",
            "lipschitz_epochs",
            "pretrain_epochs",
            "seed",
        )
        charts = [keras.saving.serialize_keras_object(chart) for chart in self.charts]
        return {
            **super().get_config(),
            "charts": charts,
            **{name: getattr(self, name) for name in names},
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "MixtureVAE":
        charts = [
            keras.saving.deserialize_keras_object(chart, custom_objects)
            for chart in config["charts"]
        ]
        return cls(**{**config, "charts": charts})


def _chart(given):
    if isinstance(given, (list, tuple)) and len(given) == 2:
        return PairChart(*given)
    if (
        isinstance(given, keras.layers.Layer)
        and hasattr(given, "encode")
        and hasattr(given, "decode")
    ):
        return given
    raise ValueError(
        "A chart must be a model with `encode` and `decode`, such as `kr.generative.invertible_chart` makes, or a "
        f"pair of an encoder and a decoder. Received: {given!r}"
    )


def _energy(codes):
    """Negative log-density of codes `(batch, d)`, up to a constant: `(batch,)`."""
    size = ops.abs(upcast(codes))
    density = 1.0 - _SLOPE * ops.relu(ops.minimum(size, 1.0) - _FLAT)
    return ops.sum(_RATE * ops.relu(size - 1.0) - ops.log(maximum(density, _EDGE)), axis=-1)


def _codes(uniform):
    """Codes of that density from uniform numbers in (-1, 1): its inverse distribution function."""
    slope = (1.0 + _EDGE) / 2 * (1.0 - _FLAT)
    tail = _EDGE / _RATE
    mass = ops.abs(uniform) * (_FLAT + slope + tail)
    falling = ops.clip(mass - _FLAT, 0.0, slope)
    beyond = ops.clip((mass - _FLAT - slope) / tail, 0.0, 1.0 - 1e-6)
    size = ops.minimum(mass, _FLAT) + (1.0 - ops.sqrt(1.0 - 2.0 * _SLOPE * falling)) / _SLOPE
    return ops.sign(uniform) * (size - ops.log(1.0 - beyond) / _RATE)


def _nearest(x, charts, random):
    """Bools `(n, charts)` as numbers: the points nearest to centres that are far from each other."""
    rows = x.reshape((len(x), -1)).astype("float64")
    centers = rows[random.permutation(len(rows))[: max(_CANDIDATES, charts)]]
    while len(centers) > charts:
        distances = _distances(centers, centers)
        np.fill_diagonal(distances, np.inf)
        one, other = np.unravel_index(distances.argmin(), distances.shape)
        distances[one, other] = distances[other, one] = np.inf
        crowded = one if distances[one].min() <= distances[other].min() else other
        centers = np.delete(centers, crowded, axis=0)
    nearest = np.zeros((len(rows), charts), "float32")
    for k, center in enumerate(centers):
        order = np.argsort(_distances(rows, center[None])[:, 0], kind="stable")
        nearest[order[:_NEAREST], k] = 1.0
    return nearest


def _distances(x, y):
    return np.square(x).sum(1)[:, None] + np.square(y).sum(1)[None] - 2.0 * x @ y.T


def _log_softmax(z):
    z = np.maximum(z - z.max(axis=-1, keepdims=True), _LEAST_LOG_WEIGHT)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def _array(x):
    return np.asarray(ops.convert_to_numpy(ops.stop_gradient(x)))


def _is_array(x):
    return hasattr(x, "shape") and not hasattr(x, "element_spec")


def _joined(histories):
    """The last history, with the epochs of all."""
    history = histories[-1]
    epochs = [epoch for one in histories for epoch in one.epoch]
    names = {name: None for one in histories for name in one.history}
    merged = {name: [v for one in histories for v in one.history.get(name, ())] for name in names}
    history.epoch, history.history = epochs, merged
    return history
