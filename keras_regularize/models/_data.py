"""What a train step reads from the data: columns of `y`, unlabelled rows, specifications to check early."""

import inspect
from collections.abc import Mapping

import keras
from keras import ops, tree

from keras_regularize.labels import labelled

LABEL = "label"


def split_columns(y, model):
    """`(label, other columns)`; only a dictionary with a `label` that is no output of the model has columns.

    Sample weights too: beside such a `y`, Keras repeats them for every entry.
    """
    if not isinstance(y, Mapping) or LABEL not in y or LABEL in (model.output_names or ()):
        return y, {}
    return y[LABEL], {name: column for name, column in y.items() if name != LABEL}


def mask_unlabelled(y, outputs, sample_weight, rescale=False):
    """Labels and weights that leave out the samples that are not `labelled`.

    With `rescale`, the weights turn a mean over all rows into the mean over labelled ones.
    """
    if y is None or isinstance(y, (Mapping, list, tuple)):
        return y, sample_weight
    y = ops.convert_to_tensor(y)
    known = labelled(y, outputs)
    column = len(known.shape) < len(y.shape)
    y = ops.where(known[..., None] if column else known, y, ops.zeros_like(y))
    weight = ops.cast(known, "float32")
    if rescale:
        size = ops.cast(ops.size(weight), "float32")
        weight = weight * (size / ops.maximum(ops.sum(weight), 1.0))
    if sample_weight is not None:
        sample_weight = ops.cast(sample_weight, "float32")
        missing = len(weight.shape) - len(sample_weight.shape)
        weight = weight * ops.reshape(sample_weight, (*ops.shape(sample_weight), *(1,) * missing))
    return y, weight


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


def is_floating(leaf):
    """Whether an array, tensor or specification has a floating dtype."""
    dtype = leaf.dtype.name if hasattr(leaf.dtype, "name") else leaf.dtype
    return "float" in str(dtype)
