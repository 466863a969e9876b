"""Classification and imputation of data with missing values, trained together."""

import math
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_regularize.autodiff.compiled_losses import masked_sample_mean
from keras_regularize.configuration import Configured
from keras_regularize.labels import split_labels
from keras_regularize.layers import ObservationDropout
from keras_regularize.losses.probabilistic.supnotmiwae import supnotmiwae_loss
from keras_regularize.models.step.standalone import OwnLoss
from keras_regularize.numerics import as_float, log_probabilities, upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number, compatible

_LEAST_SCALE = 1e-3
_JITTER = 1e-3  # Of a kernel in float32.
_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


@export
class SupNotMIWAE(Configured, OwnLoss):
    r"""Classifies data with missing values, and fills them in, by one model that is trained on arrays with NaN.

    A variational autoencoder imputes: from the observed values an encoder draws codes $z_1, \dots, z_K$, and from
    each a decoder the missing values. A classifier and a model of what is observed see the completed data $x'_k$.
    That the mask $m$ may depend on the values themselves (a test is made of who looks ill) is learnt rather than
    ignored: the data are *not* missing at random. `fit` minimizes the bound of `kr.generative.supnotmiwae_loss`,

    $$-\ln \frac1K \sum_{k=1}^{K} p(y \mid x'_k)\, p(m \mid x'_k)\,
      \frac{p(x \mid z_k)\, p(z_k)}{q(z_k \mid x)}\, p(b_k).$$

    In training `kr.layers.ObservationDropout` hides some observed values ($b_k$) from the classifier, which sees
    imputed ones in their place: else it learns to rely on what is observed, and nothing makes imputations useful
    to it. To predict, codes are weighed by how well they explain what is observed,

    $$p(y \mid x) = \sum_k w_k\, p(y \mid x'_k), \qquad
      w = \operatorname{softmax}_k \ln \frac{p(x \mid z_k)\, p(z_k)}{q(z_k \mid x)},$$

    and `impute` gives the same mean of the decoder's means, with observed values as they are. Outside of training
    all samples are given the same random numbers, so that predictions repeat and do not depend on the batch.

    `SupNotMIWAE.for_series` makes the four parts. Standardize the features over what is observed
    (`numpy.nanmean`, `numpy.nanstd`) before. Labels are class ids, or one-hot or soft rows.

    Args:
        encoder: Model of `[values, mask]`, each `(batch, …, features)` with 0 where a value is missing, that gives
            mean and raw scale of the codes, side by side in the last axis: `(batch, …, 2 * size)`. The scale is
            their softplus plus 0.001. Codes may be one per sample or one per time step.
        decoder: Model of codes that gives mean and raw scale of the values, `(batch, …, 2 * features)`.
        classifier: Model of `[completed, mask]` that gives logits `(batch, classes)`; a single column is the
            logit of the second of two classes.
        missing_model: Model of the completed values that gives a logit of being observed for each,
            `(batch, …, features)`. `None` if what is missing does not depend on the values.
        num_latents: $K \ge 1$, the number of codes. The bound is tighter with more.
        num_samples: Number of imputations drawn from each code, at least 1.
        observation_dropout: Probability that an observed value is hidden in training, in [0, 1), or a list with
            one per feature.
        length_scale: Length, above 0 and in time steps, over which codes are alike: their prior is a Gaussian
            process over time with the Cauchy kernel $1 / (1 + (t - t')^2 / \ell^2)$. The paper takes 7. `None` for
            independent normal codes.
        mask_value: Number that fills all features of a time step that is padding, as in `keras.layers.Masking`;
            such steps count nowhere. `None` without padding.
        seed: Integer seed of the draws, or None.
        **kwargs: `name` and other arguments of `keras.Model`.

    Input: an array `(batch, …, features)` with NaN where a value is missing.

    Output: a dictionary of what both `predict` and `impute` pick from: `"class_probabilities"` `(batch, classes)`,
    `"imputed"` in the shape of the input, and the terms of the bound, `(batch, latents, imputations)`. Compiled
    metrics see the probabilities.

    Raises:
        ValueError: If an argument is out of range, a part gives another shape, labels are missing, a loss is
            compiled, or a Gaussian process is asked for where codes have no time.

    Cost: one pass of the encoder, $K$ of the decoder and as many as there are imputations of classifier and
    missing model.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 6, 3)), rng.integers(0, 2, 64)
    x[rng.random(x.shape) < 0.3] = np.nan
    model = kr.models.SupNotMIWAE.for_series(time=6, features=3, num_classes=2)
    model.compile("adam", metrics=["accuracy"])
    model.fit(x, y, verbose=0)
    probabilities, complete = model.predict(x, verbose=0), model.impute(x, verbose=0)
    ```

    Reference: SeungHyun Kim, Hyunsu Kim, EungGu Yun, Hwangrae Lee, Jaehun Lee and Juho Lee, *Probabilistic
    Imputation for Time-series Classification with Missing Data*, ICML 2023, arXiv:2308.06738. Differs from the
    authors' code in averaging probabilities, not their logarithms, over the imputations of a code.
    """

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        classifier: keras.Model,
        missing_model: keras.Model | None = None,
        num_latents: int = 10,
        num_samples: int = 1,
        observation_dropout: Any = 0.4,
        length_scale: float | None = None,
        mask_value: float | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        parts = {"encoder": encoder, "decoder": decoder, "classifier": classifier}
        if missing_model is not None:
            parts["missing_model"] = missing_model
        for name, part in parts.items():
            if not isinstance(part, keras.layers.Layer):
                raise ValueError(f"`{name}` must be a model or layer. Received: {name}={part!r}")
        super().__init__(**kwargs)
        self.encoder = encoder
        self.decoder = decoder
        self.classifier = classifier
        self.missing_model = missing_model
        self.num_latents = check_integer("num_latents", num_latents, minimum=1)
        self.num_samples = check_integer("num_samples", num_samples, minimum=1)
        self.length_scale = check_number("length_scale", length_scale, above=0, optional=True)
        self.mask_value = check_number("mask_value", mask_value, optional=True)
        self.seed = check_integer("seed", seed, optional=True)
        self.hiding = ObservationDropout(observation_dropout, seed=seed, autocast=False)
        self.observation_dropout = self.hiding.rate
        self.seed_generator = keras.random.SeedGenerator(seed)

    @classmethod
    def for_series(
        cls,
        time: int | None,
        features: int,
        num_classes: int,
        units: int = 32,
        latent_size: int = 8,
        **kwargs: Any,
    ) -> "SupNotMIWAE":
        """The model of time series `(batch, time, features)`, from recurrent and dense parts.

        Args:
            time: Number of time steps, or None if batches differ in it.
            features: Number of features of a time step.
            num_classes: Number of classes, at least 2.
            units: Width of all layers.
            latent_size: Size of the code of a time step.
            **kwargs: Arguments of the constructor but for the parts.
        """
        check_integer("num_classes", num_classes, minimum=2)
        values = [keras.Input((time, features)), keras.Input((time, features))]
        joined = layers.Concatenate()(values)
        hidden = layers.Bidirectional(layers.GRU(units, return_sequences=True))(joined)
        encoder = keras.Model(values, layers.Dense(2 * latent_size)(hidden), name="encoder")
        # Steps of padding are zeros, in values and mask.
        hidden = layers.GRU(units)(layers.Masking(0.0)(joined))
        classifier = keras.Model(values, layers.Dense(num_classes)(hidden), name="classifier")

        def dense(name, inputs, outputs):
            hidden = layers.Dense(units, activation="relu")
            return keras.Sequential(
                [keras.Input((time, inputs)), hidden, layers.Dense(outputs)], name=name
            )

        decoder = dense("decoder", latent_size, 2 * features)
        missing_model = dense("missing_model", features, features)
        return cls(encoder, decoder, classifier, missing_model, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Class probabilities `(batch, classes)`; arguments as of `keras.Model.predict`."""
        return super().predict(x, *args, **kwargs)["class_probabilities"]

    def predict_on_batch(self, x: Any) -> Any:
        return super().predict_on_batch(x)["class_probabilities"]

    def impute(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """The data with missing values filled in, observed ones as they are; arguments as of `predict`."""
        return super().predict(x, *args, **kwargs)["imputed"]

    def call(self, inputs: Any, training: bool | None = None) -> dict[str, Any]:
        x = upcast(as_float(inputs))
        _check_rank(x)
        steps = self._steps(x)
        observed = ops.logical_and(ops.logical_not(ops.isnan(x)), steps)
        mask, steps = ops.cast(observed, x.dtype), ops.cast(steps, x.dtype)
        values = ops.where(observed, x, 0.0)

        codes, log_q, log_prior = self._codes(values, mask, steps, training)
        mean, scale = self._decoded(codes, x.shape[-1])
        log_x = _total(_log_normal((values - mean) / scale, scale) * mask, 2)
        noise = self._normal(mean, 1, training)
        drawn = mean[:, None] + scale[:, None] * noise  # (latents, imputations, batch, …)

        # Every imputation has its own copy of what is observed.
        zeros, leading = ops.zeros_like(drawn), ops.shape(drawn)[:3]
        seen, shown = self.hiding(
            [_rows(zeros + values, 3), _rows(zeros + mask, 3)], training=training
        )
        completed = ops.where(shown != 0, seen, _rows(drawn, 3)) * _rows(zeros + steps, 3)
        logits = upcast(self.classifier([completed, shown], training=training))
        log_class = log_probabilities(logits, True)
        log_class = ops.reshape(log_class, (*leading, log_class.shape[-1]))
        log_mask = self._log_mask(completed, shown, _rows(zeros + steps, 3), training)

        log_dropout = self._log_dropout(_rows(zeros + mask, 3), shown, training)

        weights = ops.softmax(log_x + log_prior - log_q, axis=0)
        likely = ops.sum(weights[:, None, :, None] * ops.exp(log_class), axis=(0, 1))
        given = ops.reshape(weights, (*ops.shape(weights), *(1,) * (len(x.shape) - 1)))
        imputed = ops.where(observed, x, ops.sum(given * mean, axis=0))
        terms = {
            "log_class": log_class,
            "log_mask": ops.reshape(log_mask, leading),
            "log_x": log_x[:, None],
            "log_prior": log_prior[:, None],
            "log_q": log_q[:, None],
            "log_dropout": ops.reshape(log_dropout, leading),
        }
        return {
            "class_probabilities": likely / self.num_samples,
            "imputed": ops.where(steps != 0, imputed, x),
            **{name: ops.moveaxis(term, 2, 0) for name, term in terms.items()},
        }

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> dict[str, Any]:
        shape, latents = tuple(inputs.shape), (inputs.shape[0], self.num_latents)
        _check_rank(inputs)
        classes = max(2, self.classifier.compute_output_shape([shape, shape])[-1])
        dtype = "float64" if self.compute_dtype == "float64" else "float32"
        shapes = {
            "class_probabilities": (shape[0], classes),
            "imputed": shape,
            "log_class": (*latents, self.num_samples, classes),
            "log_mask": (*latents, self.num_samples),
            **{name: (*latents, 1) for name in ("log_x", "log_prior", "log_q")},
            "log_dropout": (*latents, self.num_samples),
        }
        return {name: keras.KerasTensor(shape, dtype) for name, shape in shapes.items()}

    # The parts

    def _steps(self, x):
        """Bools `(batch, …, 1)`, false for padding."""
        if self.mask_value is None:
            return ops.ones_like(x[..., :1], dtype="bool")
        return ops.any(ops.not_equal(x, self.mask_value), axis=-1, keepdims=True)

    def _codes(self, values, mask, steps, training):
        """Codes `(latents, batch, …, size)`, and their log-densities under encoder and prior."""
        encoded = upcast(self.encoder([values, mask], training=training))
        mean, scale = _mean_and_scale("encoder", encoded, None)
        noise = self._normal(mean, 0, training)
        codes = mean + scale * noise
        counted = self._counted(steps, mean)
        log_q = _total(_log_normal(noise, scale) * counted, 2)
        if self.length_scale is None:
            return codes, log_q, _total(_log_normal(codes, 1.0) * counted, 2)
        if len(mean.shape) != 3 or len(values.shape) != 3:
            raise ValueError(
                "`length_scale` needs codes of time steps, (batch, time, size), of time series. "
                f"Received: an encoder of output shape {tuple(mean.shape)}"
            )
        return codes, log_q, self._log_process(codes, counted)

    def _counted(self, steps, codes):
        """Which codes count: none of a time step that is padding."""
        if self.mask_value is None or len(codes.shape) != len(steps.shape):
            return ops.ones_like(codes[..., :1])
        if not compatible(codes.shape[1:-1], steps.shape[1:-1]):
            raise ValueError(
                "`mask_value` needs codes of samples, or of the time steps of the input. "
                f"Received: an encoder of output shape {tuple(codes.shape)}"
            )
        return steps

    def _log_process(self, codes, steps):
        """Log-density under the Gaussian process, of the steps that are no padding, wherever they are."""
        count = ops.shape(codes)[2]
        position = ops.cast(ops.arange(count), codes.dtype)
        distance = (position[:, None] - position[None, :]) / self.length_scale
        both = steps * ops.transpose(steps, (0, 2, 1))
        one = ops.eye(count, dtype=codes.dtype)
        # Padding is independent of all else.
        kernel = both / (1.0 + distance * distance) * (1.0 - one) + one * (1.0 + _JITTER)
        root = ops.stop_gradient(ops.cholesky(kernel))
        white = ops.matmul(ops.inv(root), codes * steps)
        scale = ops.sum(root * one, axis=-1)[..., None]
        return _total(_log_normal(white, scale) * steps, 2)

    def _decoded(self, codes, features):
        """Mean and scale of the values, `(latents, batch, …, features)`."""
        decoded = upcast(self.decoder(_rows(codes, 2)))
        decoded = ops.reshape(decoded, (*ops.shape(codes)[:2], *ops.shape(decoded)[1:]))
        return _mean_and_scale("decoder", decoded, features)

    def _log_mask(self, completed, shown, steps, training):
        if self.missing_model is None:
            return _total(0.0 * completed, 1)
        logits = upcast(self.missing_model(completed, training=training))
        # log p of what is observed, log(1 - p) of what is not.
        return _total(ops.log_sigmoid((2.0 * shown - 1.0) * logits) * steps, 1)

    def _log_dropout(self, mask, shown, training):
        if not training:
            return _total(0.0 * mask, 1)
        rate = np.asarray(self.observation_dropout, "float64")
        hidden = np.log(np.where(rate > 0, rate, 1.0))
        kept = np.log1p(-rate)
        kept, hidden = (ops.convert_to_tensor(t, mask.dtype) for t in (kept, hidden))
        return _total(shown * kept + (mask - shown) * hidden, 1)

    def _normal(self, like, batch_axis, training):
        """Draws for each code, or imputation of one; outside of training, the same for all samples."""
        shape = list(ops.shape(like))
        draws = [self.num_latents] if batch_axis == 0 else [self.num_latents, self.num_samples]
        shape = shape[batch_axis:]
        if training:
            return keras.random.normal((*draws, *shape), dtype=like.dtype, seed=self.seed_generator)
        seed = (self.seed or 0) + batch_axis
        return keras.random.normal((*draws, 1, *shape[1:]), dtype=like.dtype, seed=seed)

    # Training

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if y is None:
            raise ValueError(f"`{type(self).__name__}` needs labels `y`. Received: y=None")
        log_class = y_pred["log_class"]
        rows = ops.cast(_label_rows(y, y_pred["class_probabilities"]), log_class.dtype)
        log_y = ops.sum(rows[:, None, None] * log_class, axis=-1)
        names = ("log_mask", "log_x", "log_prior", "log_q", "log_dropout")
        terms = [log_y, *(y_pred[name] for name in names)]
        bound = supnotmiwae_loss(*(ops.moveaxis(term, 0, 2) for term in terms))
        loss = masked_sample_mean(
            ops.mean(bound, axis=0), y_pred["class_probabilities"], sample_weight
        )
        return self.with_penalties(loss)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return super().compute_metrics(x, y, y_pred["class_probabilities"], sample_weight)


def _check_rank(x):
    if len(x.shape) < 2 or x.shape[-1] is None:
        raise ValueError(
            "Expected values (batch, …, features) with a known number of features. "
            f"Received an input of shape {tuple(x.shape)}"
        )


def _mean_and_scale(name, outputs, size):
    """The halves of the last axis, the second of which is a raw scale."""
    given = outputs.shape[-1]
    if given % 2 or size not in (None, given // 2):
        wanted = "an even size" if size is None else f"size {2 * size}, twice the features"
        raise ValueError(
            f"`{name}` must give mean and raw scale side by side, a last axis of {wanted}. "
            f"Received outputs of shape {tuple(outputs.shape)}"
        )
    return outputs[..., : given // 2], ops.softplus(outputs[..., given // 2 :]) + _LEAST_SCALE


def _log_normal(standardized, scale):
    """Log-density, by what is left after division by the scale."""
    return -0.5 * standardized * standardized - ops.log(scale) - _HALF_LOG_TAU


def _total(values, start):
    """Sums over the axes from `start` on."""
    axes = tuple(range(start, len(values.shape)))
    return ops.sum(values, axis=axes) if axes else values


def _rows(values, axes):
    """The first axes joined into one of samples."""
    shape = ops.shape(values)
    return ops.reshape(values, (math.prod(shape[:axes]), *shape[axes:]))


def _label_rows(y, probabilities):
    ids, rows = split_labels(y, probabilities)
    return ops.one_hot(ids, probabilities.shape[-1]) if rows is None else rows
