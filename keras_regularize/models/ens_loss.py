"""EnsLoss: a binary classifier that meets another loss in every step."""

from typing import Any

import keras
from keras import ops, tree

from keras_regularize.autodiff.functional import resolve_weights, without_samples
from keras_regularize.labels import label_ids
from keras_regularize.losses import calibrated_derivatives
from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.registration import export
from keras_regularize.scores import class_scores, gives_logits, one_output
from keras_regularize.validation import check_integer, check_number


@export
class EnsLoss(RegularizedModel):
    r"""Trains a binary classifier on a new random loss in every step, so that it cannot overfit to one.

    Dropout draws a network of an ensemble for each step; this draws a loss. All are convex and calibrated, that is
    they agree on which decisions are best, and they are drawn by the slopes that they have at the margins
    $s_i = (2 y_i - 1) f(x_i)$ of the batch:

    $$\nabla L = \frac1{|B|} \sum_{i \in B} d_i\, \nabla s_i, \qquad
    d = \mathrm{calibrated\_derivatives}(s, u, \lambda), \quad u \sim \mathcal N(0, 1)^{|B|},$$

    see `kr.losses.calibrated_derivatives`. That takes the place of the gradient of the compiled loss. As such a
    loss has no value that would mean anything, the compiled one is what is logged: keep an eye on it and on the
    accuracy. It is not trained on, so it may rise as the scores grow; choose the epoch by validation accuracy.

    The slopes of a batch are those of one loss only in their order, and small batches show little of it: take
    batches of 32 and more. Sample weights multiply the slopes and do not change their order. It composes with
    rules and added terms: `SAM(EnsLoss(model))`, `EnsLoss(WeightPenalty(model, …))`. Each device draws for its
    share of the batch.

    Args:
        model: The binary classifier to train, or another wrapper. Best it gives out raw scores $f$, `(batch, 1)`;
            of probabilities, or of two columns, the difference of the log-probabilities is taken.
        box_cox: $\lambda$ of the slopes' distribution.
        random_box_cox: Whether each step draws $\lambda$ from `[-1, 1]` instead.
        seed: Integer seed, or None.
        from_logits: Whether the model gives out scores; `None` asks the compiled loss.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range; if outputs are not of two classes; if `fit` gets no labels.

    Cost: one forward-backward pass per step, and three sorts of the batch's margins.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x = np.random.default_rng(0).normal(size=(64, 4))
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model = kr.models.EnsLoss(net)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=[keras.metrics.BinaryAccuracy(threshold=0.0)])
    model.fit(x, (x[:, 0] > 0).astype("int32"), verbose=0)
    ```

    Reference: Ben Dai, *EnsLoss: Stochastic Calibrated Loss Ensembles for Preventing Overfitting in
    Classification*, 2024, arXiv:2409.00908. Where its code
    draws $\lambda$ it does so at the start of every `period`-th epoch (by default never), for images and sequences
    from `[-1, 1]` as here, for text from `[0, 1]`.
    """

    def __init__(
        self,
        model: keras.Model,
        box_cox: float = 0.0,
        random_box_cox: bool = False,
        seed: int | None = None,
        from_logits: bool | None = None,
        **kwargs: Any,
    ):
        if seed is not None:
            check_integer("seed", seed)
        super().__init__(model, **kwargs)
        self.box_cox = check_number("box_cox", box_cox)
        self.random_box_cox = bool(random_box_cox)
        self.seed = None if seed is None else int(seed)
        self.from_logits = None if from_logits is None else bool(from_logits)
        self.seed_generator = keras.random.SeedGenerator(seed)

    def compile(
        self, optimizer: Any = "rmsprop", loss: Any = None, *args: Any, **kwargs: Any
    ) -> None:
        """As `keras.Model.compile`; the loss is only logged, by default the cross-entropy of scores."""
        if loss is None:
            loss = keras.losses.BinaryCrossentropy(from_logits=True)
        super().compile(optimizer, loss, *args, **kwargs)

    def check_loss(self, model):
        super().check_loss(model)
        gives_logits(model)

    def check_data(self, x, y):
        super().check_data(x, y)
        if y is None:
            raise ValueError("`EnsLoss` needs labels `y`. Received: y=None")

    def prepare(self, batch, forward):
        batch = super().prepare(batch, forward)
        size = ops.shape(next(leaf for leaf in tree.flatten(batch.x) if leaf is not None))[0]
        noise = keras.random.normal((size,), seed=self.seed_generator)
        box_cox = self.box_cox
        if self.random_box_cox:
            box_cox = keras.random.uniform((), -1.0, 1.0, seed=self.seed_generator)
        return batch.add(**{self.key: (noise, box_cox)})

    def objective(self, batch, forward):
        loss, values = super().objective(without_samples(batch), forward)
        outputs = forward.outputs_at(batch.x)
        weights = resolve_weights(batch, outputs)
        y, weights = forward.model.mask_unlabelled(batch.y, outputs, weights, rescale=True)
        batch = batch.replace(sample_weight=weights, reweighting=None)

        margins = self._margins(y, outputs, forward)
        slopes = calibrated_derivatives(margins, *batch.extra[self.key])
        ensemble = forward.sample_mean(slopes * margins, batch)
        logged = forward.sample_mean(forward.sample_losses(y, outputs), batch)
        # The value of one loss and the gradient of the other.
        ensemble = ensemble + ops.stop_gradient(logged - ensemble)
        return loss + ops.cast(ensemble, loss.dtype), values

    def _margins(self, y, outputs, forward):
        outputs = one_output(outputs, forward)
        if len(outputs.shape) != 2 or outputs.shape[-1] > 2:
            raise ValueError(
                "`EnsLoss` needs outputs for two classes, (batch, 1) or (batch, 2). "
                f"Received outputs of shape {tuple(outputs.shape)}"
            )
        scores = class_scores(outputs, gives_logits(forward))
        signs = 2.0 * ops.cast(label_ids(y, scores), scores.dtype) - 1.0
        return signs * (scores[:, 1] - scores[:, 0])
