"""Rows without a label, -1, that loss and metrics of semi-supervised models leave out."""

from collections.abc import Mapping

from keras import ops, tree

from keras_regularize.autodiff.compiled_losses import CONTAINERS, CompiledLoss, masked_sample_mean
from keras_regularize.labels import labelled
from keras_regularize.scores import is_regression


def mask_unlabelled(y, outputs, sample_weight, rescale=False):
    """Labels and weights that leave out the samples that are not `labelled`.

    With `rescale`, the weights turn a mean over all rows into the mean over labelled ones.
    """
    if y is None:
        return y, sample_weight
    y = ops.convert_to_tensor(y)
    known = labelled(y, outputs)
    column = len(known.shape) < len(y.shape)
    y = ops.where(known[..., None] if column else known, y, ops.zeros_like(y))
    weight = ops.cast(known, "float32")
    if rescale:
        # Of the positions that a mask leaves: Keras takes the mean over these.
        share = masked_sample_mean(weight, outputs)
        weight = weight * ops.where(share > 0, 1.0 / ops.where(share > 0, share, 1.0), 0.0)
    if sample_weight is not None:
        sample_weight = ops.cast(sample_weight, "float32")
        missing = len(weight.shape) - len(sample_weight.shape)
        weight = weight * ops.reshape(sample_weight, (*ops.shape(sample_weight), *(1,) * missing))
    return y, weight


def mask_unlabelled_outputs(model, y, outputs, sample_weight, rescale=False):
    """`mask_unlabelled` of each of several outputs by itself: of those that have a loss.

    If several have one, a regression is none of them, whose labels may be negative. The labels keep their
    structure; weights have that of the outputs, or are those of the only labels.
    """
    compiled = CompiledLoss.of(model, outputs)
    parts = tree.flatten(outputs)
    losses, weights = (
        compiled.in_order(given, outputs, shared=True) for given in (compiled.loss, sample_weight)
    )
    measured = [i for i, loss in enumerate(losses) if loss is not None]
    labels = compiled.in_order(y, outputs)
    places = measured if len(labels) == len(measured) else range(len(parts))
    if not measured:
        return y, sample_weight
    if len(losses) != len(parts) or len(labels) != len(places):
        raise ValueError(
            "Expected labels, of which -1 stands for none, for every output or for every output with a loss. "
            f"Received {len(labels)} of them for {len(parts)} outputs, {len(measured)} with a loss"
        )
    if len(measured) > 1:
        measured = [i for i in measured if not is_regression(losses[i])]
    for position, i in enumerate(places):
        if i in measured:
            labels[position], weights[i] = mask_unlabelled(
                labels[position], parts[i], weights[i], rescale
            )
    if not isinstance(y, (*CONTAINERS, str)):
        return labels[0], weights[places[0]]
    names = compiled.names(outputs)
    if isinstance(y, Mapping) and set(y) <= set(names or ()):
        y = {name: label for name, label in zip(names, labels) if name in y}
    else:
        y = tree.pack_sequence_as(y, labels)
    if all(weight is None for weight in weights):
        return y, None
    return y, tree.pack_sequence_as(outputs, weights) if len(labels) > 1 else weights[places[0]]
