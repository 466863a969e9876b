"""Knowledge distillation: a model learns from a trained one beside the labels."""

import contextlib
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops, tree
from keras.layers import Layer

from keras_regularize.attacks.points import find_layer
from keras_regularize.autodiff.compiled_losses import joint_mask, masked_sample_mean, per_sample
from keras_regularize.autodiff.functional import resolve_weights
from keras_regularize.autodiff.taps import recorded_output
from keras_regularize.losses.distillation import decoupled_distillation_loss, softened_divergence
from keras_regularize.masks import keras_mask, with_mask
from keras_regularize.models._teacher import Taught
from keras_regularize.numerics import masked_mean, mean, upcast
from keras_regularize.registration import export
from keras_regularize.scores import (
    class_outputs,
    class_scores,
    gives_logits,
    is_regression,
    loss_at,
    one_output,
    output_labels,
    places_of_losses,
    sample_mean,
    scored_places,
    uses_logits,
)
from keras_regularize.validation import check_choice, check_number, compatible


@export
class Distillation(Taught):
    r"""Knowledge distillation: learns from a trained teacher's predictions beside the labels.

    $$\alpha\, L + (1 - \alpha)\,\frac1B \sum_i D(z_i, v_i)$$

    with $L$ the compiled loss, $z$ the logits of the model, $v$ those of the teacher, and $D$ by `loss` one of

    - `"kl"`: $T^2\, KL\big(\operatorname{softmax}(v / T) \,\|\, \operatorname{softmax}(z / T)\big)$, of Hinton et
      al.;
    - `"dkd"`: `kr.losses.decoupled_distillation_loss` with its weights 1 and 8 at temperature $T$, of Zhao et al.;
    - `"mse"`: the mean over outputs of $(p - q)^2$, of Borup and Andersen, $p$ and $q$ being the probabilities of
      model and teacher. Of models whose compiled loss takes no logits they are the outputs as they are, so that
      it distils regressions too.

    What says whether outputs are logits is the compiled loss; for the teacher its own, or its last layer if it has
    none. Of several outputs all with a loss are distilled, each from the teacher's at the same place and with the
    same weight; with `"kl"` and `"dkd"` those of classes.

    With `layers`, hidden layers learn from the teacher's too, as the hints of Romero et al. do: to $D$ is added

    $$\beta \sum_k \operatorname{mean}\big((h_k - g_k)^2\big)$$

    with $h_k$ what the $k$-th chosen layer of the model gives out for a sample and $g_k$ the teacher's at its
    partner, the mean being over all features, at the positions that a mask leaves. If only their last axes are of
    one size, both are first averaged over positions. For layers of different widths put a `Dense` (a convolution
    of size 1) into the model that maps to the teacher's width, and name that one.

    The teacher knows how alike the classes are, and which labels are odd; a small model learns more from that
    than from labels alone. It is frozen (`teacher.trainable = False`), saved with this model, and runs once a
    step in inference mode on the inputs that the model gets. In self-distillation it is an earlier model of the
    same kind: every generation is then more regularized, which helps for a few and hurts after; some ground
    truth, $\alpha > 0$, keeps that in bounds. `kr.analysis.self_distill` runs the generations and finds $\alpha$.

    $\alpha$ acts like a sample weight on what the wrapped model trains on: penalties of weights and activities act
    in full. Sample weights count for both terms, metrics see labels. `alpha=1` is the model without a
    teacher, which is useful to compare. A high temperature, 2 to 5, shows more of what the teacher thinks of the
    wrong classes; take a lower one, or a larger $\alpha$, where the model is far smaller than the teacher.

    Args:
        model: The model to train, the student, or another wrapper.
        teacher: The trained teacher, with the inputs and outputs of `model`.
        alpha: Weight $\alpha$ of the labels from 0 to 1 (some codes have it the other way round); or a schedule.
        temperature: $T$, above 0; not used by `"mse"`.
        loss: `"kl"`, `"dkd"` or `"mse"`. Decoupled distillation raises its share over the first 20 epochs: use a
            schedule for `alpha` that falls from 1.
        from_logits: Whether the model gives out logits, and a teacher that does not say; `None` asks the compiled
            loss, or without one the last layer.
        layers: Layers whose outputs are matched too: a list of names that the model and the teacher both have, or
            of pairs `(layer of the model, layer of the teacher)`, by name or themselves; `None` for none. Each is
            called once in a pass and gives out one tensor.
        layer_factor: Weight $\beta$ of these, at least 0; or a schedule.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range; if `teacher` is no built model or shares trainable weights with
            `model`; if outputs, or those of chosen layers, do not fit each other; if a layer is not found; if
            nothing says whether outputs are logits.

    Cost: one forward-backward pass and a forward pass of the teacher.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(64), keras.layers.Dense(3)])
    teacher.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = np.random.default_rng(0).random((32, 4)), np.arange(32) % 3
    teacher.fit(x, y, verbose=0)

    student = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model = kr.models.Distillation(student, teacher, alpha=0.5)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, verbose=0)
    ```

    Reference: Geoffrey Hinton, Oriol Vinyals and Jeff Dean, *Distilling the Knowledge in a Neural Network*, 2015,
    arXiv:1503.02531. Kenneth Borup and Lars N. Andersen, *Even your Teacher Needs Guidance: Ground-Truth Targets
    Dampen Regularization Imposed by Self-Distillation*, NeurIPS 2021, arXiv:2102.13088. Borui Zhao, Quan Cui,
    Renjie Song, Yiyu Qiu and Jiajun Liang, *Decoupled Knowledge Distillation*, CVPR 2022, arXiv:2203.08679; their
    code weighs the labels by 1 where it is $\alpha$ here. Adriana Romero, Nicolas Ballas, Samira Ebrahimi Kahou,
    Antoine Chassang, Carlo Gatta and Yoshua Bengio, *FitNets: Hints for Thin Deep Nets*, ICLR 2015,
    arXiv:1412.6550, who train on the hints first and on the rest after: a schedule of `layer_factor` that falls.
    """

    def __init__(
        self,
        model: keras.Model,
        teacher: keras.Model,
        alpha: Any = 0.1,
        temperature: float = 3.0,
        loss: str = "kl",
        from_logits: bool | None = None,
        layers: Sequence[Any] | None = None,
        layer_factor: Any = 1.0,
        **kwargs: Any,
    ):
        pairs = _named_pairs(layers)
        super().__init__(model, **kwargs)
        self.alpha = check_number("alpha", alpha, minimum=0, maximum=1, schedule=True)
        self.temperature = check_number("temperature", temperature, above=0)
        self.loss_name = check_choice("loss", loss, ("kl", "dkd", "mse"))
        self.from_logits = None if from_logits is None else bool(from_logits)
        self.layer_pairs = pairs
        self.layer_factor = check_number("layer_factor", layer_factor, minimum=0, schedule=True)
        self.hold_teacher(teacher)

    def check_loss(self, model):
        super().check_loss(model)
        for place in self._places(places_of_losses(model), model):
            self._logits(model, place)
        self._chosen(self.model, 0)
        self._chosen(self.teacher, 1)

    def prepare(self, batch, forward):
        batch = super().prepare(batch, forward)
        layers = self._chosen(self.teacher, 1)
        with contextlib.ExitStack() as taps:
            records = [taps.enter_context(recorded_output(layer)) for layer in layers]
            taught = self.teacher(batch.x, training=False)
        hidden = [_one_tensor(layer, record) for layer, record in zip(layers, records)]
        taught, hidden = tree.map_structure(_constant, (taught, hidden))
        return batch.add(**{self._key: taught, f"{self._key}_layers": hidden})

    def objective(self, batch, forward):
        alpha = self.scheduled(self.alpha, batch)
        of_labels = batch.replace(loss_weight=batch.loss_weight * alpha)
        forward.watch(self._chosen(self.model, 0))
        loss, values = super().objective(of_labels, forward)
        if self.layer_pairs:
            factor = (1.0 - alpha) * self.scheduled(self.layer_factor, batch)
            loss = loss + ops.cast(factor * self._of_layers(batch, forward), loss.dtype)
        outputs, taught = forward.outputs_at(batch.x), batch.extra[self._key]
        for place in self._places(scored_places(outputs, forward), forward):
            distance = self._distance(batch.y, outputs, taught, forward, place)
            term = (1.0 - alpha) * sample_mean(forward, distance, batch, place)
            loss = loss + ops.cast(term, loss.dtype)
        return loss, values

    def _places(self, places, model):
        """Of several outputs those of classes, or with `"mse"` all."""
        if self.loss_name == "mse" or len(places) == 1:
            return places
        found = [place for place in places if not is_regression(loss_at(model, place))]
        if not found:
            raise ValueError(
                f'`loss="{self.loss_name}"` needs outputs with class scores; regressions are distilled with '
                f'`loss="mse"`. Received no such output among {places}'
            )
        return found

    def _logits(self, model, place):
        """Whether model and teacher give out logits; `None` for a regression, compared as it is."""
        loss = loss_at(model, place)
        if self.loss_name == "mse" and self.from_logits is None and is_regression(loss):
            taught = loss_at(self.teacher, place)
            return None, taught is not None and uses_logits(taught)
        return gives_logits(model, place=place), self.teacher_gives_logits(place)

    def _distance(self, y, outputs, taught, forward, place):
        """How far the predictions of an output are from the teacher's: values per sample, or position."""
        output, teacher = (one_output(entry, forward, place) for entry in (outputs, taught))
        if tuple(output.shape[1:]) != tuple(teacher.shape[1:]):
            raise ValueError(
                "The teacher's outputs must have the shape of the model's. Received: "
                f"{tuple(teacher.shape)} of the teacher, {tuple(output.shape)} of the model"
            )
        pair = []
        for entry, logits in zip((outputs, taught), self._logits(forward, place)):
            if self.loss_name == "mse" and not logits:
                pair.append(upcast(one_output(entry, forward, place)))
                continue
            scores = class_scores(class_outputs(entry, forward, place), logits)
            pair.append(scores if self.loss_name != "mse" else ops.softmax(scores, axis=-1))
        if self.loss_name == "mse":
            return mean(ops.square(pair[0] - pair[1]), axis=-1)
        if self.loss_name == "kl":
            return softened_divergence(pair[0], pair[1], self.temperature)
        labels = output_labels(y, outputs, forward, place)
        return decoupled_distillation_loss(labels, pair[0], pair[1], temperature=self.temperature)

    def _chosen(self, model, side):
        """The chosen layers of the model (`side` 0) or of the teacher (1)."""
        return [find_layer(model, pair[side]) for pair in self.layer_pairs]

    def _of_layers(self, batch, forward):
        """The distances of the chosen layers from their partners, averaged over samples and added up."""
        layers, total = self._chosen(self.model, 0), 0.0
        weights = _of_samples(resolve_weights(batch, forward.outputs))
        records = forward.layer_outputs_at(batch.x, layers)
        for layer, record, teacher in zip(layers, records, batch.extra[f"{self._key}_layers"]):
            output = _one_tensor(layer, record)
            total = total + masked_sample_mean(_squares(layer, output, teacher), output, weights)
        return total * batch.loss_weight

    @property
    def _key(self):
        return f"{self.key}_teacher"

    def get_config(self) -> dict[str, Any]:
        # `loss` and `layers` of a model are Keras' own.
        return {
            **super().get_config(),
            "alpha": keras.saving.serialize_keras_object(self.alpha),
            "temperature": self.temperature,
            "loss": self.loss_name,
            "from_logits": self.from_logits,
            "layers": [list(pair) for pair in self.layer_pairs] or None,
            "layer_factor": keras.saving.serialize_keras_object(self.layer_factor),
        }


def _named_pairs(layers):
    """Pairs of names `[model's, teacher's]` of what was given as layers, or names, or pairs of these."""
    if layers is None:
        return []
    given = [layers] if isinstance(layers, (str, Layer)) else list(layers)
    pairs = [list(entry) if isinstance(entry, (list, tuple)) else [entry] * 2 for entry in given]
    pairs = [[e.name if isinstance(e, Layer) else e for e in pair] for pair in pairs]
    if any(len(pair) != 2 or not all(isinstance(name, str) for name in pair) for pair in pairs):
        raise ValueError(
            "`layers` must be a list of names of layers, or of pairs (layer of the model, layer of the teacher). "
            f"Received: layers={layers!r}"
        )
    return pairs


def _constant(tensor):
    """A tensor without a gradient, and with its mask."""
    mask = keras_mask(tensor)
    constant = ops.stop_gradient(tensor)
    return constant if mask is None else with_mask(constant, mask)


def _one_tensor(layer, record):
    if len(record) != 1 or len(tree.flatten(record[0])) != 1:
        raise ValueError(
            "A layer in `layers` must be called once in a pass and give out one tensor. Received "
            f"`{layer.name}`, which is called {len(record)} times and gave out {record}"
        )
    return tree.flatten(record[0])[0]


def _squares(layer, output, teacher):
    """Mean squared differences over the last axis: values per sample, or position."""
    shapes = tuple(output.shape), tuple(teacher.shape)
    if not compatible(*shapes):
        if min(map(len, shapes)) < 2 or not compatible(shapes[0][-1:], shapes[1][-1:]):
            raise ValueError(
                "Layers in `layers` must give out what has the shape of the teacher's, or at least its last axis. "
                f"Received: {shapes[0]} of `{layer.name}`, {shapes[1]} of the teacher"
            )
        output, teacher = _over_positions(output), _over_positions(teacher)
    values = ops.square(upcast(output) - ops.cast(teacher, upcast(output).dtype))
    return ops.mean(values, axis=-1) if len(values.shape) > 1 else values


def _over_positions(output):
    """Mean `(batch, features)` over the positions that the mask of an output leaves."""
    values, axes = upcast(output), tuple(range(1, len(output.shape) - 1))
    mask = joint_mask(output, values)
    if mask is None or not axes:
        return ops.mean(values, axis=axes) if axes else values
    return masked_mean(values, ops.broadcast_to(mask, ops.shape(values)), axis=axes)


def _of_samples(weights):
    """Sample weights `(batch,)`, of weights per position or of several outputs their mean; or `None`."""
    leaves = [leaf for leaf in tree.flatten(weights) if leaf is not None]
    leaves = [upcast(per_sample(ops.convert_to_tensor(leaf))) for leaf in leaves]
    return sum(leaves) / len(leaves) if leaves else None
