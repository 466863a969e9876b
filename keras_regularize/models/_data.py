"""What a train step reads from the data: columns of `y`, unlabelled rows, specifications to check early."""

import inspect
import itertools
import types
from collections.abc import Iterable, Mapping

import keras
from keras import ops, tree

from keras_regularize.autodiff import backend
from keras_regularize.autodiff.compiled_losses import CompiledLoss, masked_sample_mean
from keras_regularize.labels import labelled
from keras_regularize.scores import is_regression

_CONTAINERS = (Mapping, list, tuple, str)


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
    if not isinstance(y, _CONTAINERS):
        return labels[0], weights[places[0]]
    names = compiled.names(outputs)
    if isinstance(y, Mapping) and set(y) <= set(names or ()):
        y = {name: label for name, label in zip(names, labels) if name in y}
    else:
        y = tree.pack_sequence_as(y, labels)
    if all(weight is None for weight in weights):
        return y, None
    return y, tree.pack_sequence_as(outputs, weights) if len(labels) > 1 else weights[places[0]]


def split_column_metrics(metrics):
    """`(metrics for Keras, metrics that are given columns of y)`."""
    if not isinstance(metrics, (list, tuple)):
        return metrics, []
    columns = [m for m in metrics if isinstance(m, keras.metrics.Metric) and column_names(m)]
    return [m for m in metrics if not any(m is c for c in columns)], columns


def column_names(metric):
    """Names beyond Keras' own that a metric's `update_state` takes."""
    parameters = inspect.signature(metric.update_state).parameters.values()
    known = {"y_true", "y_pred", "sample_weight", "values"}
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [p.name for p in parameters if p.kind in kinds and p.name not in known]


def update_column_metric(metric, y, outputs, sample_weight, columns):
    """Updates a metric with the columns it names, if there are any (none with plain `y` in `evaluate`)."""
    given = {name: columns[name] for name in column_names(metric) if name in columns}
    if given:
        metric.update_state(y, outputs, sample_weight=sample_weight, **given)


def join_metrics(metrics, weighted_metrics):
    """Plain and weighted metrics as one argument for `weighted_metrics`."""
    if not metrics or not weighted_metrics:
        return metrics or weighted_metrics
    if isinstance(metrics, Mapping) and isinstance(weighted_metrics, Mapping):
        names = {**metrics, **weighted_metrics}
        return {n: [*_as_list(metrics.get(n)), *_as_list(weighted_metrics.get(n))] for n in names}
    if isinstance(metrics, Mapping) or isinstance(weighted_metrics, Mapping):
        raise ValueError(
            "`metrics` and `weighted_metrics` must both be lists or both be dictionaries. "
            f"Received: metrics={metrics}, weighted_metrics={weighted_metrics}"
        )
    return [*_as_list(metrics), *_as_list(weighted_metrics)]


def _as_list(value):
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def specification(x, y):
    """`(x, y)` with shapes and dtypes to check; `(None, None)` if that needs reading the data."""
    spec = getattr(x, "element_spec", None)
    if spec is not None:
        return keras.utils.unpack_x_y_sample_weight(spec)[:2]
    leaves = tree.flatten(x)
    if leaves and all(leaf is None or hasattr(leaf, "dtype") for leaf in leaves):
        return x, y
    return None, None


def peek(x):
    """`(first, x)`: the first batch of a dataset, or `None` where there is none, and the dataset to go on with.

    Its batches are all still to come: a generator is replaced by one that begins with the batch taken. (The
    iterator made here counts where a pipeline shuffles anew for each.)
    """
    if isinstance(x, types.GeneratorType):
        taken = list(itertools.islice(x, 1))
        return (taken[0] if taken else None), _followed(taken, x)
    if isinstance(x, keras.utils.PyDataset):
        return x[0], x
    if (
        x is None
        or hasattr(x, "shape")
        or not isinstance(x, Iterable)
        or isinstance(x, _CONTAINERS)
    ):
        return None, x
    states = [(state, state.value) for state in backend.random_states()]
    first = next(iter(x), None)
    for state, value in states:  # A `DataLoader` draws its order from torch's global generator.
        state.assign(value)
    return first, x


def _followed(taken, rest):
    yield from taken
    yield from rest


def is_floating(leaf):
    """Whether an array, tensor or specification has a floating dtype."""
    dtype = leaf.dtype.name if hasattr(leaf.dtype, "name") else leaf.dtype
    return "float" in str(dtype)
