"""The contract of a metric."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.testing._common import (
    assert_close,
    assert_config_round_trip,
    assert_finite,
    clone,
    compiled,
    fused,
    run_checks,
    save_and_load,
    to_numpy,
    why_not_compiled,
)

COLUMNS = "`evaluate` of a plain model passes no further columns on"


def check_metric(
    metric: keras.metrics.Metric,
    y_true: Any = None,
    y_pred: Any = None,
    *,
    skip: Sequence[str] = (),
    **columns: Any,
) -> dict[str, str]:
    """Checks that a metric keeps the contract of `compile(metrics=[…])`.

    | check | what must hold |
    |---|---|
    | `config` | config → JSON → object with every argument |
    | `result` | finite, the same when computed again, and reset by `reset_state` |
    | `empty` | finite before the first update |
    | `streaming` | two updates with half the data each equal one update |
    | `permutation` | the order of the samples does not matter |
    | `sample weights` | equal weights change nothing, weight 0 removes a sample |
    | `labels` | ids `(batch,)`, ids `(batch, 1)` and one-hot rows agree, or are rejected |
    | `stateless` | `stateless_update_state` gives the same and leaves the metric alone |
    | `saving` | a compiled model with the metric survives `.keras` in safe mode |
    | `jit` | a compiled `evaluate` gives the same (JAX and TensorFlow) |

    Args:
        metric: The metric to check.
        y_true: Labels or targets of an even number of samples; default: class ids of six samples.
        y_pred: Predictions; default: probabilities of three classes, or logits if `metric.from_logits`.
        skip: Names of checks that do not apply.
        **columns: Further arguments of `update_state`, such as `group=`.

    Returns:
        What became of each check: "passed", "skipped", or "not applicable: " and why.

    Raises:
        AssertionError: If a check fails; names the check, and expected and received values.
        ValueError: If `skip` names no check.

    Cost: about fifteen updates and one compiled evaluation.

    Example:

    ```python
    import keras_regularize as kr

    kr.testing.check_metric(kr.metrics.ExpectedCalibrationError(num_bins=5))
    ```
    """
    if y_pred is None:
        y_pred = np.random.default_rng(0).normal(0.0, 1.0, (6, 3))
        if getattr(metric, "from_logits", False) is not True:
            y_pred = np.exp(y_pred) / np.exp(y_pred).sum(-1, keepdims=True)
    y_true = np.array([0, 2, 1, 2, 1, 1], "int32") if y_true is None else np.asarray(y_true)
    y_true = y_true.astype("int32" if y_true.dtype.kind in "iub" else "float32")
    columns = {name: np.asarray(column) for name, column in columns.items()}
    case = SimpleNamespace(
        metric=metric, y_true=y_true, y_pred=np.asarray(y_pred, "float32"), columns=columns
    )
    fresh = clone(metric)
    case.initial = [to_numpy(v) for v in fresh.variables]
    case.update = fused(
        lambda state, y_true, y_pred, given: fresh.stateless_update_state(
            state, y_true, y_pred, **given
        )
    )
    case.result = fused(fresh.stateless_result)
    return run_checks("check_metric", metric, CHECKS, case, skip)


def _result(case, *parts, weights=None, y_true=None, y_pred=None):
    """The result of a fresh metric updated with the given slices of the data, one after the other."""
    y_true = case.y_true if y_true is None else y_true
    y_pred = case.y_pred if y_pred is None else y_pred
    state = case.initial
    for part in parts or (slice(None),):
        given = {name: column[part] for name, column in case.columns.items()}
        if weights is not None:
            given["sample_weight"] = weights[part]
        state = case.update(state, y_true[part], y_pred[part], given)
    return to_numpy(case.result(state))


def _config(case):
    assert_config_round_trip(case.metric)


def _check_result(case):
    metric = clone(case.metric)
    metric.update_state(case.y_true, case.y_pred, **case.columns)
    first = to_numpy(metric.result())
    assert_finite(first, "result")
    assert_close(metric.result(), first, "result computed a second time")
    metric.reset_state()
    metric.update_state(case.y_true, case.y_pred, **case.columns)
    assert_close(metric.result(), first, "result after reset_state and the same update")
    assert_close(_result(case), first, "result of traced code")


def _empty(case):
    assert_finite(to_numpy(clone(case.metric).result()), "result before the first update")


def _streaming(case):
    half = len(case.y_true) // 2
    got = _result(case, slice(0, half), slice(half, None))
    assert_close(got, _result(case), "result of two updates against one")


def _permutation(case):
    order = np.roll(np.arange(len(case.y_true)), 1)[::-1]
    assert_close(_result(case, order), _result(case), f"result in the order {order.tolist()}")


def _sample_weights(case):
    count = len(case.y_true)
    equal = np.full(count, 2.0, "float32")
    assert_close(_result(case, weights=equal), _result(case), "result with all weights 2")
    weights = np.ones(count, "float32")
    weights[0] = 0.0
    assert_close(
        _result(case, weights=weights),
        _result(case, slice(1, None)),
        "result with weight 0 for the first sample against the result without it",
    )


def _labels(case):
    ids, y_pred = case.y_true, case.y_pred
    if ids.dtype.kind != "i" or ids.ndim != 1 or y_pred.ndim != 2 or y_pred.shape[1] < 2:
        return "the labels are not classes of the last axis"
    if ids.min() < 0 or ids.max() >= y_pred.shape[1]:
        return "the labels are not classes of the last axis"
    for what, labels in (
        ("ids of shape (batch, 1)", ids[:, None]),
        ("one-hot rows", np.eye(y_pred.shape[1], dtype="float32")[ids]),
    ):
        try:
            got = _result(case, y_true=labels)
        except ValueError:
            continue
        assert_close(got, _result(case), f"result for {what}")


def _stateless(case):
    metric = clone(case.metric)
    before = [to_numpy(v) for v in metric.variables]
    state = metric.stateless_update_state(
        [ops.convert_to_tensor(v.value) for v in metric.variables],
        ops.convert_to_tensor(case.y_true),
        ops.convert_to_tensor(case.y_pred),
        **{name: ops.convert_to_tensor(column) for name, column in case.columns.items()},
    )
    result = metric.stateless_result(state)
    metric.update_state(case.y_true, case.y_pred, **case.columns)
    assert_close(result, metric.result(), "stateless result")
    metric.reset_state()
    for variable, value in zip(metric.variables, before):
        assert_close(variable, value, f"variable `{variable.name}` after a stateless update")


def _model(case, **options):
    inputs = keras.Input(case.y_pred.shape[1:])
    # A model without any loss does not compile a step on every backend.
    model = keras.Model(inputs, keras.layers.ActivityRegularization()(inputs))
    model.compile("sgd", metrics=[clone(case.metric)], **options)
    return model


def _evaluate(model, case):
    return model.test_on_batch(case.y_pred, case.y_true, return_dict=True)[case.metric.name]


def _saving(case):
    if case.columns:
        return COLUMNS
    model = _model(case, run_eagerly=True)
    expected = _evaluate(model, case)
    assert_close(expected, _result(case), "evaluate against the result")
    assert_close(_evaluate(save_and_load(model), case), expected, "evaluate after loading")


def _jit(case):
    if case.columns:
        return COLUMNS
    model = _model(case, **compiled())
    assert_close(_evaluate(model, case), _result(case), "compiled evaluate")
    return why_not_compiled()


CHECKS = {
    "config": _config,
    "result": _check_result,
    "empty": _empty,
    "streaming": _streaming,
    "permutation": _permutation,
    "sample weights": _sample_weights,
    "labels": _labels,
    "stateless": _stateless,
    "saving": _saving,
    "jit": _jit,
}
