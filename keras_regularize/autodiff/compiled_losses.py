"""The compiled loss of a model as values per sample: outputs, labels and weights paired as Keras pairs them."""

import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
from keras import ops, tree

from keras_regularize.autodiff import backend
from keras_regularize.masks import keras_mask
from keras_regularize.numerics import masked_mean, mean, upcast

CONTAINERS = (Mapping, list, tuple)


class OutputLoss(NamedTuple):
    """An output with the loss it was compiled with, the weight of that loss, its labels and sample weights."""

    loss: Any
    loss_weight: Any
    y: Any
    outputs: Any
    sample_weight: Any


class CompiledLoss(NamedTuple):
    """What `compile` was told, which decides on the value per sample."""

    loss: Any
    loss_weights: Any = None
    output_names: Any = None

    @classmethod
    def of(cls, model: keras.Model, outputs: Any) -> "CompiledLoss":
        """That of a compiled model with outputs like these."""
        names = getattr(model, "output_names", None)
        if hasattr(model, "loss_weights"):
            loss_weights = model.loss_weights
        else:  # A model of Keras tells them in its configuration alone, which is slow to make.
            several = isinstance(outputs, CONTAINERS)
            loss_weights = _configured_loss_weights(model) if several else None
        return cls(getattr(model, "loss", None), loss_weights, names)

    def output_losses(self, y: Any, outputs: Any, sample_weight: Any = None) -> list[OutputLoss]:
        """The outputs that have a loss. One array of labels beside `loss=[…, None]` is that of the first."""
        if not isinstance(outputs, CONTAINERS):
            # Of several losses for one output, Keras computes the first.
            parts = (self.loss, self.loss_weights, y, outputs, sample_weight)
            return [] if _first(self.loss) is None else [OutputLoss(*map(_first, parts))]
        outputs_in_order = tree.flatten(outputs)
        losses = self.in_order(self.loss, outputs, shared=True)
        loss_weights = self.in_order(self.loss_weights, outputs, shared=True)
        sample_weights = self.in_order(sample_weight, outputs, shared=True)
        measured = [i for i, loss in enumerate(losses) if loss is not None]
        labels: Any = self.in_order(y, outputs)
        if len(labels) == len(measured) != len(losses):
            labels = dict(zip(measured, labels))
        elif len(labels) != len(losses) or any(labels[i] is None for i in measured):
            raise ValueError(
                "Expected labels for every output, or for every output with a loss. Received "
                f"{len(labels)} of them for {len(losses)} outputs, {len(measured)} with a loss"
            )
        return [
            OutputLoss(
                losses[i], loss_weights[i], labels[i], outputs_in_order[i], sample_weights[i]
            )
            for i in measured
        ]

    def in_order(self, given: Any, outputs: Any, shared: bool = False) -> list[Any]:
        """The entries of `given`, a structure like that of the outputs, one after the other."""
        count = len(tree.flatten(outputs))
        if not isinstance(given, CONTAINERS):
            return [given] * count if shared else [given]
        names = self.names(outputs)
        if isinstance(given, Mapping) and len(names or ()) == count:
            return [given.get(name) for name in names]
        return tree.flatten(given)

    def names(self, outputs):
        """Names of the outputs in the order of `tree.flatten`, which sorts dictionaries; or `None`."""
        return sorted(outputs) if isinstance(outputs, Mapping) else self.output_names


def sample_losses(
    loss: Any, y: Any, outputs: Any, loss_weights: Any = None, output_names: Any = None
) -> Any:
    """Per-sample values `(batch,)` of what `compile(loss=…)` was given; several outputs are added up.

    Without sample weights. Positions that are masked or that the loss ignores do not count in the mean of a
    sample.
    """
    compiled = CompiledLoss(loss, loss_weights, output_names)
    return weighted_sample_losses(compiled.output_losses(y, outputs))[0]


def weighted_sample_losses(entries: list[OutputLoss]) -> tuple[Any, Any]:
    """`(losses, weights)`, both `(batch,)`: the mean of their product is Keras' loss.

    The loss of a sample is the mean over its positions with their weights and masks, and its weight says how
    much of them there is: 1 without either, the same for all samples unless some have more positions.
    """
    if not entries:
        raise ValueError("The loss per sample needs `compile(loss=…)`. Received: loss=None")
    parts = [_numerator_and_weight(entry) for entry in entries]
    total = sum(numerator for numerator, _ in parts)
    weights = parts[0][1] if len(parts) == 1 else sum(weight for _, weight in parts) / len(parts)
    counted = weights != 0
    return ops.where(counted, total / ops.where(counted, weights, 1.0), 0.0), weights


def _numerator_and_weight(entry):
    values = _position_losses(entry.loss, entry.y, entry.outputs)
    if len(values.shape) == 0:
        raise ValueError(
            f"The compiled loss must give a value per sample. Received the scalar of {entry.loss}"
        )
    mask = joint_mask(entry.outputs, values)
    weights = position_weights(entry.sample_weight, mask, values)
    if weights is None:
        numerator = per_sample(values)
        weights = ops.ones_like(numerator)
    else:
        numerator = per_sample(ops.where(weights != 0, values, 0.0) * weights)
        weights = per_sample(weights)
    if entry.loss_weight is not None:
        numerator = numerator * ops.cast(entry.loss_weight, numerator.dtype)
    return numerator, weights


def _position_losses(loss, y, outputs):
    """Values per position, as Keras' `Loss.__call__` gets them before it weighs and reduces."""
    outputs = upcast(outputs)  # As Keras does: half precision holds few class ids.
    y = ops.cast(y, outputs.dtype)
    if isinstance(loss, str) and loss.lower() in ("crossentropy", "ce"):
        loss = _crossentropy_for(y, outputs)
    loss = keras.losses.get(loss)
    if isinstance(loss, keras.losses.Loss):
        return loss.call(y, outputs)
    return loss(*_equal_ranks(y, outputs))


def _crossentropy_for(y, outputs):
    """The crossentropy that Keras takes for shapes like these."""
    if outputs.shape[-1] == 1:
        return "binary_crossentropy"
    sparse = len(y.shape) < len(outputs.shape) or y.shape[-1] == 1
    return "sparse_categorical_crossentropy" if sparse else "categorical_crossentropy"


def _equal_ranks(a, b):
    """Two tensors of which one may lack a last axis of size one, as Keras passes them to functions."""
    ranks = len(a.shape), len(b.shape)
    if ranks[0] == ranks[1] + 1 and a.shape[-1] == 1:
        return (a, b[..., None]) if ranks[1] == 1 else (ops.squeeze(a, axis=-1), b)
    if ranks[1] == ranks[0] + 1 and b.shape[-1] == 1:
        return (a[..., None], b) if ranks[0] == 1 else (a, ops.squeeze(b, axis=-1))
    return a, b


def masked_mean_per_sample(values: Any, outputs: Any) -> Any:
    """Mean `(batch,)` of values `(batch, …)` over the positions that the mask of outputs leaves, if any."""
    mask = joint_mask(outputs, values) if len(values.shape) > 1 else None
    if mask is None:
        return per_sample(values)
    mask = ops.broadcast_to(mask, ops.shape(values))
    return masked_mean(values, mask, axis=tuple(range(1, len(values.shape))))


def masked_sample_mean(values: Any, outputs: Any, sample_weight: Any = None) -> Any:
    """Mean of values `(batch, …)` with sample weights, over the unmasked positions, as Keras reduces a loss.

    `outputs` are those that the values belong to; they carry the mask. Values of weight 0 may be anything.
    """
    values = upcast(values)
    if sample_weight is not None and len(sample_weight.shape) > len(values.shape):
        sample_weight = per_sample(ops.convert_to_tensor(sample_weight))
    weights = position_weights(sample_weight, joint_mask(outputs, values), values)
    if weights is None:
        return mean(values)
    return mean(ops.where(weights != 0, values, 0.0) * weights)


def joint_mask(outputs: Any, values: Any) -> Any:
    """Bools in the rank of `values`, `(batch, …)`: neither masked in the outputs nor ignored by the loss."""
    mask = None
    for given in (keras_mask(outputs), keras_mask(values)):
        if given is None or (given := _in_rank(ops.cast(given, "bool"), values)) is None:
            continue
        mask = given if mask is None else ops.logical_and(mask, given)
    return mask


def position_weights(sample_weight: Any, mask: Any, values: Any) -> Any:
    """Weights per position in the shape of `values`, with the mask in them as Keras has it; or `None`.

    The mean over all positions of weights times values is that over unmasked positions.
    """
    weights = None
    if mask is not None:
        kept = ops.cast(mask, values.dtype)
        share = mean(kept)
        weights = kept / ops.where(share > 0, share, 1.0) * ops.ones_like(values)
    if sample_weight is not None:
        given = ops.cast(ops.convert_to_tensor(sample_weight), values.dtype)
        aligned = _in_rank(given, values)
        if aligned is None:
            raise ValueError(
                "Expected sample weights per sample or per position. Received weights of shape "
                f"{tuple(given.shape)} for losses of shape {tuple(values.shape)}"
            )
        weights = aligned * (ops.ones_like(values) if weights is None else weights)
    return weights


def _in_rank(given, values):
    """`(batch, …)` in the rank of `values`, with axes of size one at the end; `None` if it has more axes."""
    surplus = len(given.shape) - len(values.shape)
    while surplus > 0:
        if given.shape[-1] != 1:
            return None
        given, surplus = ops.squeeze(given, axis=-1), surplus - 1
    return ops.reshape(given, (*ops.shape(given), *(1,) * -surplus)) if surplus else given


def _configured_loss_weights(model):
    # Reads the learning rate, which no traced function can.
    with backend.eager(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of functions as losses, which cannot be saved.
        return (model.get_compile_config() or {}).get("loss_weights")


def _first(structure):
    while isinstance(structure, CONTAINERS):
        entries = structure.values() if isinstance(structure, Mapping) else structure
        structure = next(iter(entries), None)
    return structure


def only(structure: Any) -> Any:
    """The one entry of a container of one, as Keras takes them for models with one output."""
    if isinstance(structure, CONTAINERS) and len(structure) == 1:
        return next(iter(structure.values() if isinstance(structure, Mapping) else structure))
    return structure


def per_sample(values: Any) -> Any:
    """Mean over all axes but the first."""
    axes = tuple(range(1, len(values.shape)))
    return mean(values, axis=axes) if axes else values
