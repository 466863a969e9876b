"""Metrics that are given further columns of `y`."""

import inspect
from collections.abc import Mapping

import keras


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
