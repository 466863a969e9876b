"""Robust self-training: unlabelled data, also from another domain, move the decision boundary."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import ops, tree

from keras_regularize.attacks.attack import per_sample_norm
from keras_regularize.attacks.penalized_ascent import PenalizedAscent, check_ascent
from keras_regularize.attacks.points import floating_leaves
from keras_regularize.labels import labelled, split_labels
from keras_regularize.models.attacked_model import AttackedModel
from keras_regularize.numerics import upcast
from keras_regularize.registration import export
from keras_regularize.scores import class_log_probabilities, gives_logits, one_label, one_output
from keras_regularize.validation import check_number


class Found(NamedTuple):
    """Moved inputs (or perturbations of a layer), all labels, who had one, and the price of the move."""

    x: Any
    y: Any
    labelled: Any
    price: Any


@export
class RobustSelfSupervised(AttackedModel):
    r"""Robust self-training: learns from worst-case neighbours of labelled and of unlabelled samples.

    $$\frac1m \sum_{i\le m} \phi_\gamma(x_i, y_i) + \lambda\,\frac1n \sum_{j\le n} \phi_{\gamma'}(u_j, h(u_j)),
    \qquad \phi_\gamma(x, y) = \sup_z\; \ell(z, y) - \gamma\,\|z - x\|_2^2$$

    with $\ell$ the compiled loss and $h(u)$ the model's own current prediction of the class of an unlabelled
    sample $u$. Samples whose prediction can be changed cheaply lie near the boundary, and the supremum pushes
    it away from them, into regions without data. The unlabelled samples need not come from the labelled
    ones' distribution: the price pays for a shift between them.

    Rows with the integer label -1 (or a one-hot row of -1) are unlabelled; a sum over none is 0.
    `kr.attacks.PenalizedAscent` finds $z$, once a step, in inference mode, at the unperturbed weights, where
    $h(u)$ is taken too; both are constants of the objective, so under `SAM` they stay throughout a step.
    The one training pass is on $z$: outputs for the metrics, which see labelled rows only, and batch
    statistics come from it. The logged loss is the objective itself, the price included.

    Tips: the ascent is sound where $2\gamma$ exceeds the curvature of the loss in the inputs, so start with a
    large `gamma` and lower it. Predictions teach themselves: begin with a small `factor`, or a schedule that
    raises it, while few labels make them poor.

    Args:
        model: The model to train, or another wrapper.
        factor: Weight $\lambda$ of the unlabelled rows, at least 0; or a schedule.
        gamma: Price $\gamma$ of moving a labelled input by a distance of 1, above 0. Infinite: not moved.
        gamma_unlabeled: Price $\gamma'$ for unlabelled inputs.
        steps: Steps of the ascent, at least 0.
        step_size: Step of the ascent, above 0 and at most $1/\gamma$ and $1/\gamma'$. `None` for a quarter of
            these.
        robust: Whether inputs are moved at all; without, this is plain self-training.
        layer: Layer, or its name, whose output is moved instead of the inputs; needed for token ids (give the
            embedding).
        from_logits: Whether the model gives out logits; `None` asks the compiled loss, or without one the
            last layer.
        inputs: Names (dictionary) or positions (list) of the inputs that are moved, the others staying as they
            are (they may be ids); all floating ones by default. Not together with `layer`.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range, labels are missing, the model has several outputs, or the
            inputs are integers and `layer` is not given.

    Cost: per step one forward pass for $h(u)$, `steps` forward and input-backward passes (none without
    `robust`), and one forward-backward pass.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model = kr.models.RobustSelfSupervised(net, factor=0.5, gamma=2.0, gamma_unlabeled=2.0)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.random.default_rng(0).random((6, 4))
    model.fit(x, np.array([0, 1, 2, -1, -1, -1]), verbose=0)
    ```

    Reference: Saberi, Najafi, Heidari, Movasaghinia, Motahari and Khalaj, *Out-Of-Domain Unlabeled Data
    Improves Generalization*, ICLR 2024, arXiv:2310.00027. With `factor=0` it is the training of Sinha,
    Namkoong and Duchi, *Certifying Some Distributional Robustness with Principled Adversarial Training*, ICLR
    2018, arXiv:1710.10571.
    """

    semi_supervised = True
    needs_probabilities = True

    def __init__(
        self,
        model: keras.Model,
        factor: Any = 1.0,
        gamma: float = 1.0,
        gamma_unlabeled: float = 1.0,
        steps: int = 15,
        step_size: float | None = None,
        robust: bool = True,
        layer: Any = None,
        from_logits: bool | None = None,
        inputs: Sequence[str | int] | None = None,
        **kwargs: Any,
    ):
        check_ascent(gamma, step_size, steps)
        check_ascent(gamma_unlabeled, step_size, steps, "gamma_unlabeled")
        moves = robust and min(gamma, gamma_unlabeled) < float("inf")
        attack = PenalizedAscent(
            gamma, step_size, steps if moves else 0, "compiled", layer, inputs=inputs
        )
        super().__init__(model, attack, from_logits=from_logits, **kwargs)
        self.factor = check_number("factor", factor, minimum=0, schedule=True)
        self.gamma_unlabeled = float(gamma_unlabeled)
        self.steps = int(steps)
        self.robust = bool(robust)

    def run_attack(self, batch, forward):
        y, is_known = self._labels(batch, forward)
        gamma = ops.where(is_known, self.attack.gamma, self.gamma_unlabeled)
        x = self.attack(forward, batch.x, y, gamma=gamma)
        if self.attack.layer is None:
            ends = (floating_leaves(each, self.attack.inputs) for each in (x, batch.x))
            moves = [upcast(moved) - upcast(start) for moved, start in zip(*ends)]
        else:
            moves = [upcast(move) for move in x]
        distance = ops.reshape(per_sample_norm(moves)[0], (-1,))
        finite = gamma < float("inf")
        return Found(x, y, is_known, ops.where(finite, gamma, 0.0) * distance**2)

    def found(self, batch):
        return super().found(batch).x

    def objective(self, batch, forward):
        found = super().found(batch)
        weights = self._weights(batch, found.labelled)
        batch = batch.replace(y=found.y).reweight(lambda outputs: weights)
        loss, values = self.attacked_objective(batch, forward)
        return loss - ops.cast(forward.sample_mean(found.price, batch), loss.dtype), values

    def _labels(self, batch, forward):
        """Labels, in their structure, in which predictions have filled the gaps, and who had one, `(batch,)`."""
        outputs = forward(batch.x)
        log_p = class_log_probabilities(one_output(outputs, forward), gives_logits(forward))
        given = one_label(batch.y, outputs, forward)
        y = ops.convert_to_tensor(given)
        ids, rows = split_labels(y, log_p)
        if len(log_p.shape) != 2:
            raise ValueError(
                "`RobustSelfSupervised` needs a model with one prediction per sample, of shape (batch, "
                f"classes). Received predictions of shape {tuple(log_p.shape)}"
            )
        is_known = labelled(y, log_p)
        if rows is None:
            guess = ops.reshape(ops.argmax(log_p, axis=-1), ops.shape(y))
        else:
            guess = ops.one_hot(ops.argmax(log_p, axis=-1), log_p.shape[-1])
        known = ops.reshape(is_known, (-1,) + (1,) * (len(y.shape) - 1))
        filled = ops.where(known, y, ops.cast(guess, y.dtype))
        return tree.map_structure(lambda leaf: filled if leaf is given else leaf, batch.y), is_known

    def _weights(self, batch, is_known):
        """Sample weights that turn the mean over all rows into the sum of the two means."""
        factor = self.scheduled(self.factor, batch)
        known = ops.cast(is_known, "float32")
        size = ops.cast(ops.size(known), "float32")
        share = known * size / ops.maximum(ops.sum(known), 1.0)
        return share + factor * (1.0 - known) * size / ops.maximum(size - ops.sum(known), 1.0)

    def get_config(self) -> dict[str, Any]:
        config, attack = super().get_config(), self.attack
        return {
            **config,
            "factor": keras.saving.serialize_keras_object(self.factor),
            "gamma": attack.gamma,
            "gamma_unlabeled": self.gamma_unlabeled,
            "steps": self.steps,
            "step_size": attack.step_size,
            "robust": self.robust,
            "layer": attack.layer,
            "inputs": attack.inputs,
        }
