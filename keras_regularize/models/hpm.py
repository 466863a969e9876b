"""Masked image modelling that hides what is hard to see."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.losses import PatchLossRanking
from keras_regularize.models._hard_patch_mask import hard_patch_mask, number_masked
from keras_regularize.models.step.standalone import mean_loss
from keras_regularize.numerics import mean
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
class HPM(Configured, keras.Model):
    r"""Trains an encoder by hiding patches of images or videos, more and more those that are hard to reconstruct.

    Of each image a share of the patches is hidden, and the others are encoded; a decoder reconstructs the hidden
    ones from them, and a second one, the loss predictor, tells how hard each was. In training a step minimizes

    $$\frac1M \sum_{n\ \text{hidden}} \ell_n + \text{the ranking loss of } (\ell, s), \qquad
      \ell_n = \operatorname{mean} (\hat x_n - x_n)^2,$$

    with the predicted difficulties $s$ and `kr.losses.PatchLossRanking`. What is hidden is chosen by a teacher, a
    moving average of the network, which sees the whole image: `kr.models.hard_patch_mask` of its $s$. The hard
    share grows in `fit` from epoch to epoch, $h_t = h_0 + \frac{t + 1}{T} (h_T - h_0)$: at first masks are random,
    since nobody knows yet what is hard.

    It learns from inputs alone: `model.compile(optimizer)` without a loss, `model.fit(x)`. `predict` gives the
    encoded patches `(batch, patches, dim)` of whole inputs, `reconstruct` what a mask leaves to guess. After
    training use `patch_embedding` and `encoder`, with `positions` added in between.

    Expect a small gain over random masks, `final_hard_fraction=0`. On digits in patches of 2 × 2 pixels, with an
    encoder of one block and 8 to 12 epochs, a linear classifier of the mean of the encoded patches was right more
    often in 20 of 23 pairs of runs, for 0.025 more of the images on average; one of all encoded patches gained by
    neither.

    Args:
        patch_embedding: A built model from patches `(batch, patches, pixels)` to tokens `(batch, patches, dim)`.
        encoder: A built model of tokens `(batch, any number, dim)`, which knows of no positions.
        decoder: A built model from tokens `(batch, patches, dim)` to `(batch, patches, pixels)`.
        loss_predictor: A built model from tokens to `(batch, patches, any)`, whose mean over channels is $s$.
        patch_size: Height and width of a patch, and frames, height and width for videos.
        mask_ratio: Share of patches that are hidden, above 0 and below 1.
        initial_hard_fraction: $h_0$, 0 to 1.
        final_hard_fraction: $h_T$, 0 to 1.
        ema_momentum: Momentum of the teacher at first, and from `ema_warmup_epochs` on; linear in between.
        ema_warmup_epochs: At least 1.
        relative: Whether to rank; `False` predicts, by the squared error, the losses standardized in each image.
        seed: Of the masks.
        **kwargs: `name` and other arguments of `keras.Model`.

    Input: images `(batch, height, width, channels)` or videos `(batch, frames, height, width, channels)`, of a
    known size that patches divide.

    Raises:
        ValueError: If an argument is out of range, parts do not fit or are not built, or patches do not divide
            inputs.

    Cost: encoder on the visible patches and both decoders, forward and backward, and the teacher's encoder and
    loss predictor forward on all patches.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    tokens = lambda units: keras.Sequential([keras.Input((None, 16)), keras.layers.Dense(units)])
    embedding = keras.Sequential([keras.Input((None, 4)), keras.layers.Dense(16)])
    model = kr.models.HPM(embedding, tokens(16), tokens(4), tokens(1), patch_size=(2, 2))
    model.compile("adam")
    model.fit(np.random.uniform(size=(32, 8, 8, 1)), epochs=2, verbose=0)
    ```

    Reference: Haochen Wang, Kaiyou Song, Junsong Fan, Yuxi Wang, Jin Xie and Zhaoxiang Zhang, *Hard Patches Mining
    for Masked Image Modeling*, CVPR 2023, arXiv:2304.05919; with videos: Haochen Wang, Junsong Fan, Yuxi Wang,
    Kaiyou Song, Tiancai Wang, Xiangyu Zhang and Zhaoxiang Zhang, *Bootstrap Masked Visual Modeling via Hard
    Patches Mining*, 2023, arXiv:2312.13714.
    """

    def __init__(
        self,
        patch_embedding: keras.Model,
        encoder: keras.Model,
        decoder: keras.Model,
        loss_predictor: keras.Model,
        patch_size: Sequence[int] = (16, 16),
        mask_ratio: float = 0.75,
        initial_hard_fraction: float = 0.0,
        final_hard_fraction: float = 0.5,
        ema_momentum: Sequence[float] = (0.999, 0.9999),
        ema_warmup_epochs: int = 100,
        relative: bool = True,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        parts = {
            "patch_embedding": patch_embedding,
            "encoder": encoder,
            "decoder": decoder,
            "loss_predictor": loss_predictor,
        }
        for name, part in parts.items():
            if not isinstance(part, keras.Model) or not getattr(part, "inputs", None):
                raise ValueError(
                    f"`{name}` must be a built functional or sequential `keras.Model`. Received: {part!r}"
                )
            setattr(self, name, part)
        self.patch_size = [check_integer("patch_size", p, minimum=1) for p in patch_size]
        if len(self.patch_size) not in (2, 3):
            raise ValueError(f"`patch_size` must be 2 or 3 sizes. Received: {patch_size!r}")
        self.mask_ratio = check_number("mask_ratio", mask_ratio, above=0, below=1)
        bounds = {"minimum": 0, "maximum": 1}
        self.initial_hard_fraction = check_number(
            "initial_hard_fraction", initial_hard_fraction, **bounds
        )
        self.final_hard_fraction = check_number(
            "final_hard_fraction", final_hard_fraction, **bounds
        )
        self.ema_momentum = [check_number("ema_momentum", m, **bounds) for m in ema_momentum]
        if len(self.ema_momentum) != 2:
            raise ValueError(f"`ema_momentum` must be two numbers. Received: {ema_momentum!r}")
        self.ema_warmup_epochs = check_integer("ema_warmup_epochs", ema_warmup_epochs, minimum=1)
        self.relative = bool(relative)
        self.seed = check_integer("seed", seed, optional=True)
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.dim = patch_embedding.outputs[0].shape[-1]
        for name, value in {
            "hard_fraction": self.initial_hard_fraction,
            "momentum": self.ema_momentum[0],
            "started": 0.0,
        }.items():
            constant = keras.initializers.Constant(value)
            options = {"trainable": False, "dtype": "float32", "autocast": False}
            setattr(self, name, self.add_weight((), constant, name=name, **options))
        # Of patch_embedding, encoder and loss_predictor.
        self.teacher = [
            keras.models.clone_model(part) for part in (patch_embedding, encoder, loss_predictor)
        ]
        for copy, part in zip(self.teacher, (patch_embedding, encoder, loss_predictor)):
            copy.set_weights(part.get_weights())
            copy.trainable = False

    def build(self, input_shape: Any) -> None:
        counts = self._counts(input_shape)
        patches, pixels = math.prod(counts), math.prod(self.patch_size) * input_shape[-1]
        given = self.patch_embedding.inputs[0].shape[-1], self.decoder.outputs[0].shape[-1]
        if given != (pixels, pixels):
            raise ValueError(
                f"Patches have {pixels} numbers, which `patch_embedding` takes and `decoder` gives. "
                f"Received: {given[0]} and {given[1]}"
            )
        normal = keras.initializers.RandomNormal(stddev=0.02)
        self.positions = self.add_weight((patches, self.dim), normal, name="positions")
        self.decoder_positions = self.add_weight(
            (patches, self.dim), normal, name="decoder_positions"
        )
        self.mask_token = self.add_weight((self.dim,), normal, name="mask_token")
        options = {"trainable": False, "dtype": "float32", "autocast": False}
        self.teacher_positions = [
            self.add_weight((patches, self.dim), "zeros", name=f"teacher_{name}", **options)
            for name in ("positions", "decoder_positions")
        ]

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        patches = self.patches(inputs)
        tokens = self._placed(self.patch_embedding(patches, training=training), self.positions)
        if not training:
            return ops.cast(self.encoder(tokens, training=False), self.compute_dtype)
        self._move_teacher()
        mask = hard_patch_mask(
            self.predicted_losses(inputs),
            None,
            self.mask_ratio,
            ops.convert_to_tensor(self.hard_fraction),
            self.seed_generator,
        )
        tokens, pixels, scores = self._guess(tokens, mask, training=True)
        losses = mean(
            ops.square(ops.cast(pixels, "float32") - ops.cast(patches, "float32")), axis=-1
        )
        hidden = self._order(mask)[:, -number_masked(losses.shape[1], self.mask_ratio) :]
        losses, scores = (ops.take_along_axis(t, hidden, axis=1) for t in (losses, scores))
        loss = mean(losses) + self._prediction_loss(ops.stop_gradient(losses), scores)
        self.add_loss(ops.cast(loss, keras.config.floatx()))
        return ops.cast(tokens, self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], math.prod(self._counts(input_shape)), self.dim)

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """As `keras.Model.fit`, with the schedules of the hard share and of the teacher."""
        callbacks = kwargs.get("callbacks") or []
        callbacks = callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]
        return super().fit(*args, **{**kwargs, "callbacks": [_Schedules(), *callbacks]})

    def patches(self, inputs: Any) -> Any:
        """Patches `(batch, patches, pixels)` of inputs."""
        counts, rank = self._counts(inputs.shape), len(self.patch_size)
        sizes = [size for pair in zip(counts, self.patch_size) for size in pair]
        x = ops.reshape(inputs, (-1, *sizes, inputs.shape[-1]))
        inside = [2 * i + 2 for i in range(rank)]
        x = ops.transpose(x, (0, *[i - 1 for i in inside], *inside, 2 * rank + 1))
        return ops.reshape(
            x, (-1, math.prod(counts), math.prod(self.patch_size) * inputs.shape[-1])
        )

    def predicted_losses(self, inputs: Any) -> Any:
        """How hard the teacher takes each patch of whole inputs to be, `(batch, patches)`."""
        embedding, encoder, predictor = self.teacher
        positions, others = self.teacher_positions
        tokens = self._placed(embedding(self.patches(inputs), training=False), positions)
        encoded = self._placed(encoder(tokens, training=False), others)
        scores = predictor(encoded, training=False)
        return ops.stop_gradient(ops.cast(mean(scores, axis=-1), "float32"))

    def reconstruct(self, inputs: Any, hard_fraction: float | None = None) -> tuple[Any, Any]:
        """Inputs with hidden patches guessed, and the mask `(batch, patches)`; by default of the present share."""
        inputs = ops.cast(ops.convert_to_tensor(inputs), "float32")
        share = (
            ops.convert_to_tensor(self.hard_fraction) if hard_fraction is None else hard_fraction
        )
        scores = self.predicted_losses(inputs)
        mask = hard_patch_mask(scores, None, self.mask_ratio, share, self.seed_generator)
        patches = self.patches(inputs)
        tokens = self._placed(self.patch_embedding(patches, training=False), self.positions)
        _, pixels, _ = self._guess(tokens, mask, training=False)
        guessed = ops.where(mask[:, :, None] > 0, ops.cast(pixels, "float32"), patches)
        counts, rank = self._counts(inputs.shape), len(self.patch_size)
        x = ops.reshape(guessed, (-1, *counts, *self.patch_size, inputs.shape[-1]))
        order = [axis for i in range(rank) for axis in (1 + i, 1 + rank + i)]
        return ops.reshape(ops.transpose(x, (0, *order, 2 * rank + 1)), ops.shape(inputs)), mask

    def _guess(self, tokens, mask, training):
        """Tokens of all patches, encoded or hidden, all patches as decoded, and how hard each was."""
        order, count = self._order(mask), tokens.shape[1]
        visible = order[:, : count - number_masked(count, self.mask_ratio)]
        encoded = self.encoder(
            ops.take_along_axis(tokens, visible[:, :, None], axis=1), training=training
        )
        hidden = ops.zeros_like(tokens[:, visible.shape[1] :]) + ops.cast(
            ops.convert_to_tensor(self.mask_token), tokens.dtype
        )
        full = ops.concatenate([encoded, ops.cast(hidden, encoded.dtype)], axis=1)
        full = ops.take_along_axis(full, ops.argsort(order, axis=1)[:, :, None], axis=1)
        placed = self._placed(full, self.decoder_positions)
        scores = mean(self.loss_predictor(placed, training=training), axis=-1)
        return full, self.decoder(placed, training=training), ops.cast(scores, "float32")

    def _placed(self, tokens, positions):
        return tokens + ops.cast(ops.convert_to_tensor(positions), tokens.dtype)

    def _order(self, mask):
        """Numbers of the patches `(batch, patches)`, the visible ones first."""
        place = ops.arange(mask.shape[1], dtype="float32")
        return ops.argsort(ops.cast(mask, "float32") * mask.shape[1] + place, axis=1)

    def _prediction_loss(self, losses, scores):
        if self.relative:
            return mean_loss(PatchLossRanking(), losses, scores)
        centred = losses - mean(losses, axis=1, keepdims=True)
        count = max(losses.shape[1] - 1, 1)
        variance = ops.sum(ops.square(centred), axis=1, keepdims=True) / count
        return mean(ops.square(scores - centred / ops.sqrt(variance + 1e-6)))

    def _pairs(self):
        """Variables of the teacher, each with that of the network."""
        parts = (self.patch_embedding, self.encoder, self.loss_predictor)
        for copy, part in zip(self.teacher, parts):
            yield from zip(copy.variables, part.variables)
        yield from zip(self.teacher_positions, (self.positions, self.decoder_positions))

    def _move_teacher(self):
        # Before a step, of the weights that the last one left.
        started, keep = (ops.convert_to_tensor(v) for v in (self.started, self.momentum))
        keep = ops.where(started > 0, keep, 0.0)
        self.started.assign(ops.ones_like(keep))
        for mine, own in self._pairs():
            own = ops.stop_gradient(ops.convert_to_tensor(own))
            if keras.backend.is_float_dtype(keras.backend.standardize_dtype(mine.dtype)):
                kept = ops.cast(keep, mine.dtype)
                mine.assign(kept * mine + (1.0 - kept) * ops.cast(own, mine.dtype))

    def _counts(self, shape):
        space = tuple(shape)[1:-1]
        if len(space) != len(self.patch_size) or any(
            size is None or size % p for size, p in zip(space, self.patch_size)
        ):
            raise ValueError(
                f"Patches of {self.patch_size} must divide inputs (batch, "
                f"{'frames, ' * (len(self.patch_size) - 2)}"
                f"height, width, channels). Received: shape={tuple(shape)}"
            )
        return [size // p for size, p in zip(space, self.patch_size)]


class _Schedules(keras.callbacks.Callback):
    """Hard share and momentum of each epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        model, total = self.model, max(self.params["epochs"], 1)
        first, last = model.initial_hard_fraction, model.final_hard_fraction
        model.hard_fraction.assign(first + (epoch + 1) / total * (last - first))
        first, last = model.ema_momentum
        model.momentum.assign(first + min(epoch / model.ema_warmup_epochs, 1.0) * (last - first))
