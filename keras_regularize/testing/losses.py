"""The contract of a loss."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_regularize.testing._common import (
    assert_close,
    assert_config_round_trip,
    assert_finite,
    assert_gradient_matches_finite_differences,
    assert_unknown_batch,
    cast,
    clone,
    compiled,
    dtype_of,
    fused,
    run_checks,
    save_and_load,
    show,
    to_numpy,
    values_and_gradients,
    why_not_compiled,
)


def check_loss(
    loss: keras.losses.Loss,
    y_true: Any = None,
    y_pred: Any = None,
    *,
    extremes: Sequence[Any] | None = None,
    skip: Sequence[str] = (),
) -> dict[str, str]:
    """Checks that a loss keeps the contract that `compile(loss=…)` and the train steps rely on.

    | check | what must hold |
    |---|---|
    | `config` | config → JSON → object with every argument and equal attributes |
    | `per sample` | `call` gives one value per sample (or position), never a scalar |
    | `reductions` | `sum`, `mean`, `mean_with_sample_weight` and `none` reduce these values |
    | `sample weights` | scalar, `(batch,)`, `(batch, 1)` and zeros act per sample; weight 0 tames any sample |
    | `permutation` | reordering the batch reorders the values |
    | `independence` | a sample's value does not depend on the others |
    | `batch of one`, `empty batch` | finite, and shape `(0,)` |
    | `labels` | ids `(batch,)`, ids `(batch, 1)` and one-hot rows agree, or are rejected |
    | `alignment` | `(batch,)` against `(batch, 1)` is aligned or rejected, never `(batch, batch)` |
    | `gradient` | the gradient matches finite differences |
    | `finite` | value and gradient are finite at `extremes` |
    | `half precision` | the same in float16 and bfloat16, and close to float32 |
    | `unknown batch` | traceable with an unknown batch size |
    | `sequences` | on `(batch, time, …)`, if accepted: `(batch,)` weights work, a mask equals slicing |
    | `saving` | a compiled model with the loss survives `.keras` in safe mode |
    | `jit` | a compiled training step equals the eager gradient (JAX and TensorFlow) |

    Args:
        loss: The loss to check.
        y_true: Labels or targets with a batch of at least three; default: class ids, or one-hot rows if the
            loss rejects ids, of four samples and three classes.
        y_pred: Predictions, an array; default: logits, or probabilities if `loss.from_logits` is False.
        extremes: Arrays shaped as `y_pred`; default: zeros, ±1e4 and equal rows, or exact zeros and ones
            if `loss.from_logits` is False.
        skip: Names of checks that do not apply, e.g. `("independence",)` for a contrastive loss.

    Returns:
        What became of each check: "passed", "skipped", or "not applicable: " and why.

    Raises:
        AssertionError: If a check fails; names the check, the input, and expected and received values.
        ValueError: If `skip` names no check.

    Cost: about twenty forward and ten backward passes, and one compiled step; below a second.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    from keras import ops


    @keras.saving.register_keras_serializable("example")
    class Brier(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return ops.sum((ops.one_hot(y_true, y_pred.shape[-1]) - ops.softmax(y_pred)) ** 2, -1)


    try:
        kr.testing.check_loss(Brier())
    except AssertionError as error:
        print(error)  # the ids arrive as floats, and one-hot rows are not handled
    ```
    """
    case = SimpleNamespace(loss=loss, probabilities=getattr(loss, "from_logits", True) is False)
    if y_pred is None:
        y_pred = np.random.default_rng(0).normal(0.0, 2.0, (4, 3)).astype("float32")
        if case.probabilities:
            y_pred = np.exp(y_pred) / np.exp(y_pred).sum(-1, keepdims=True)
    case.y_pred = np.asarray(y_pred, "float32")
    if y_true is None:
        y_true = np.array([0, 2, 1, 2], "int32")
        try:
            loss.call(y_true, ops.convert_to_tensor(case.y_pred))
        except Exception:  # Whatever the backend raises when a loss on rows is given ids.
            y_true = np.eye(3, dtype="float32")[y_true]
    y_true = np.asarray(y_true)
    case.y_true = y_true.astype("int32" if y_true.dtype.kind in "iub" else "float32")
    case.extremes = _extremes(case) if extremes is None else [np.asarray(e) for e in extremes]
    case.evaluate = values_and_gradients(lambda y_pred, y_true: loss.call(y_true, y_pred))
    return run_checks("check_loss", loss, CHECKS, case, skip)


def _extremes(case):
    y = case.y_pred
    if not case.probabilities:
        sign = np.sign(y)
        one = np.full_like(y, -1e4)
        one[..., 0] = 1e4
        rows = np.broadcast_to(y[:1], y.shape)
        return [0.0 * y, 1e4 * sign, -1e4 * sign, one, -one, rows]
    if y.ndim < 2 or y.shape[-1] == 1:
        return [np.zeros_like(y), np.ones_like(y), np.full_like(y, 0.5)]
    classes = y.shape[-1]
    exact = np.eye(classes, dtype=y.dtype)[y.argmax(-1)]
    return [exact, np.roll(exact, 1, axis=-1), np.full_like(y, 1.0 / classes)]


def _values(case, y_true=None, y_pred=None):
    y_true = case.y_true if y_true is None else y_true
    y_pred = case.y_pred if y_pred is None else y_pred
    return to_numpy(case.evaluate(y_pred, y_true)[0])


def _reduced(case, reduction, *args, **kwargs):
    return to_numpy(clone(case.loss, reduction=reduction)(*args, **kwargs))


def _config(case):
    # Keras puts `dtype` into the config of no loss.
    assert_config_round_trip(case.loss, ignore=("dtype",))


def _per_sample(case):
    values = case.loss.call(*map(ops.convert_to_tensor, (case.y_true, case.y_pred)))
    batch = len(case.y_pred)
    shape = tuple(values.shape)
    if not 1 <= len(shape) <= case.y_pred.ndim or shape[0] != batch:
        raise AssertionError(
            f"`call` on y_true{case.y_true.shape}, y_pred{case.y_pred.shape}: expected a value per sample, "
            f"shape ({batch}, …), got {shape}"
        )
    if not keras.backend.is_float_dtype(dtype_of(values)):
        raise AssertionError(f"`call`: expected floating values, got {dtype_of(values)}")
    assert_close(values, _values(case), "traced `call` against eager `call`")


def _reductions(case):
    values = _values(case)
    for reduction, expected in {
        "none": values,
        "sum": values.sum(),
        "mean": values.mean(),
        "sum_over_batch_size": values.mean(),
        "mean_with_sample_weight": values.mean(),
    }.items():
        assert_close(
            _reduced(case, reduction, case.y_true, case.y_pred),
            expected,
            f"reduction={reduction!r}",
        )


def _sample_weights(case):
    values = _values(case)
    batch = len(values)
    weights = np.linspace(0.0, 2.0, batch).astype("float32")
    per_value = weights.reshape((-1,) + (1,) * (values.ndim - 1))
    for given, expected in (
        (np.float32(2.0), 2.0 * values),
        (weights, per_value * values),
        (weights.reshape((-1, 1)), per_value * values),
        (np.zeros_like(weights), 0.0 * values),
    ):
        if values.ndim > 2 and given.ndim == 2:
            given = given.reshape((-1,) + (1,) * (values.ndim - 1))
        got = _reduced(case, "none", case.y_true, case.y_pred, sample_weight=given)
        # Keras gives `(batch, 1)` for weights of that shape.
        got = got.reshape(expected.shape) if got.size == expected.size else got
        assert_close(got, expected, f'sample_weight={show(given)} with reduction="none"')
        got = _reduced(case, "sum", case.y_true, case.y_pred, sample_weight=given)
        assert_close(got, expected.sum(), f'sample_weight={show(given)} with reduction="sum"')
    total = per_value * np.ones_like(values)
    got = _reduced(case, "mean_with_sample_weight", case.y_true, case.y_pred, sample_weight=weights)
    expected = (per_value * values).sum() / total.sum()
    assert_close(got, expected, 'sample weights with reduction="mean_with_sample_weight"')
    for extreme in case.extremes:
        wild = np.array(case.y_pred)
        wild[0] = extreme[0]  # weights[0] is 0
        got = _reduced(case, "mean", case.y_true, wild, sample_weight=weights)
        assert_finite(got, f"a sample of weight 0 with y_pred={show(extreme[0])}")


def _permutation(case):
    order = np.roll(np.arange(len(case.y_pred)), 1)[::-1]
    assert_close(
        _values(case, case.y_true[order], case.y_pred[order]),
        _values(case)[order],
        f"values after reordering the batch by {order.tolist()}",
    )


def _independence(case):
    order = np.arange(len(case.y_pred))
    order[1:] = 0  # Same shape, other neighbours.
    assert_close(
        _values(case, case.y_true[order], case.y_pred[order])[0],
        _values(case)[0],
        "value of the first sample in a batch of other samples",
    )


def _batch_of_one(case):
    value, gradient = case.evaluate(case.y_pred[:1], case.y_true[:1])
    if tuple(value.shape) != (1, *_values(case).shape[1:]):
        raise AssertionError(
            f"batch of one: expected shape {(1, *_values(case).shape[1:])}, got {tuple(value.shape)}"
        )
    assert_finite((value, gradient), f"batch of one, y_pred={show(case.y_pred[:1])}")


def _empty_batch(case):
    value, gradient = case.evaluate(case.y_pred[:0], case.y_true[:0])
    if value.shape[0] != 0 or gradient.shape[0] != 0:
        raise AssertionError(
            f"empty batch: expected a value and a gradient of 0 samples, got shapes "
            f"{tuple(value.shape)} and {tuple(gradient.shape)}"
        )


def _accepted(case, pairs):
    """The values for each `(y_true, y_pred)`, None where the loss refuses the shapes with a ValueError."""
    accepted: list[bool] = []

    def all_values(pairs):
        accepted[:] = []
        values = []
        for y_true, y_pred in pairs:
            try:
                values.append(case.loss.call(y_true, y_pred))
            except ValueError:
                accepted.append(False)
            else:
                accepted.append(True)
        return values

    values = iter(fused(all_values)(pairs))
    return [to_numpy(next(values)) if given else None for given in accepted]


def _class_ids(case):
    """Labels as ids `(batch, …)`, or None if they are not one class of the last axis of `y_pred`."""
    y_true, y_pred = case.y_true, case.y_pred
    if y_pred.ndim < 2 or y_pred.shape[-1] < 2:
        return None
    if y_true.dtype.kind == "i":
        leading = y_pred.shape[:-1]
        fits = y_true.shape in (leading, (*leading, 1))
        inside = 0 <= y_true.min() and y_true.max() < y_pred.shape[-1]
        return y_true.reshape(leading) if fits and inside else None
    one_hot = y_true.shape == y_pred.shape and np.isin(y_true, (0, 1)).all()
    return y_true.argmax(-1) if one_hot and (y_true.sum(-1) == 1).all() else None


def _labels(case):
    ids = _class_ids(case)
    if ids is None:
        return "the labels are not classes of the last axis"
    forms = {
        "ids of shape (batch,)": ids.astype("int32"),
        "ids of shape (batch, 1)": ids.astype("int32")[..., None],
        "ids as floats": ids.astype("float32"),
        "one-hot rows": np.eye(case.y_pred.shape[-1], dtype="float32")[ids],
    }
    found = _accepted(case, [(labels, case.y_pred) for labels in forms.values()])
    for what, values in zip(forms, found):
        if values is not None:
            assert_close(values, _values(case), f"values for {what}")


def _alignment(case):
    y_true, y_pred = case.y_true, case.y_pred
    if y_true.shape != y_pred.shape or y_pred.ndim > 2 or _class_ids(case) is not None:
        return "the targets are not those of a regression on `(batch, columns)`"
    y_true, y_pred = y_true.reshape((len(y_true), -1)), y_pred.reshape((len(y_pred), -1))
    y_true, y_pred = y_true[:, :1], y_pred[:, :1]
    expected, *found = _accepted(
        case, [(y_true, y_pred), (y_true[:, 0], y_pred), (y_true, y_pred[:, 0])]
    )
    if expected is None:
        return "several columns are needed"
    what = ("y_true (batch,) with y_pred (batch, 1)", "y_true (batch, 1) with y_pred (batch,)")
    for name, got in zip(what, found):
        if got is None:
            continue
        if got.size != expected.size:
            raise AssertionError(
                f"{name}: expected {expected.size} values, got shape {got.shape}; align the ranks"
            )
        assert_close(got.reshape(-1), expected.reshape(-1), name)


def _sequences(case):
    values = _values(case)
    if case.y_pred.ndim != 2 or values.ndim != 1:
        return "the loss is not one of rows, a value each"
    y_true = np.stack([case.y_true, case.y_true[::-1]], axis=1)
    y_pred = np.stack([case.y_pred, case.y_pred[::-1]], axis=1)
    expected = np.stack([values, values[::-1]], axis=1)
    (got,) = _accepted(case, [(y_true, y_pred)])
    if got is None:
        return "sequences are refused"
    if got.ndim == 1:
        return "a sequence has one value"
    assert_close(got, expected, "values on (batch, time, …)")
    weights = np.arange(len(values), dtype="float32")
    for given in (weights, np.repeat(weights[:, None], 2, axis=1)):
        assert_close(
            _reduced(case, "none", y_true, y_pred, sample_weight=given),
            weights[:, None] * expected,
            f"sample_weight of shape {given.shape} on a loss of shape {expected.shape}",
        )
    y_pred[0, 1] = 0.0
    masked = keras.layers.Masking(0.0)(y_pred)  # Its output carries the mask.
    keep = np.ones_like(expected, bool)
    keep[0, 1] = False
    assert_close(
        _reduced(case, "sum", y_true, masked), expected[keep].sum(), 'masked, reduction="sum"'
    )
    assert_close(
        _reduced(case, "mean", y_true, masked), expected[keep].mean(), 'masked, reduction="mean"'
    )


def _gradient(case):
    def fn(y_pred):
        # As `Loss.__call__` does: labels in the dtype of the predictions.
        return case.loss.call(cast(case.y_true, dtype_of(y_pred)), y_pred)

    assert_gradient_matches_finite_differences(fn, case.y_pred, what="the loss")


def _finite(case):
    for extreme in case.extremes:
        value, gradient = case.evaluate(extreme.astype("float32"), case.y_true)
        assert_finite(value, f"value at y_true={show(case.y_true)}, y_pred={show(extreme)}")
        assert_finite(gradient, f"gradient at y_true={show(case.y_true)}, y_pred={show(extreme)}")


def _half_precision(case):
    for dtype in ("float16", "bfloat16"):
        y_true, y_pred = cast((case.y_true, case.y_pred), dtype)
        value, gradient = case.evaluate(y_pred, y_true)
        if dtype_of(gradient) != dtype:
            raise AssertionError(f"expected a {dtype} gradient, got {dtype_of(gradient)}")
        wide = _values(case, cast(to_numpy(y_true), "float32"), to_numpy(y_pred))
        scale = float(np.abs(wide).max(initial=1.0))
        assert_close(value, wide, f"{dtype} against float32", rtol=3e-2, atol=3e-2 * scale)
        for extreme in case.extremes:
            value, gradient = case.evaluate(cast(extreme, dtype), y_true)
            assert_finite(value, f"value at {dtype} y_pred={show(extreme)}")
            assert_finite(gradient, f"gradient at {dtype} y_pred={show(extreme)}")


def _unknown_batch(case):
    assert_unknown_batch(case.loss.call, [case.y_true, case.y_pred], _values(case).shape)


def _model(case, **options):
    """A model whose first output is its input, compiled with the loss."""
    shape = case.y_pred.shape
    inputs = keras.Input(shape[1:])
    outputs = keras.layers.Reshape((1,))(inputs) if len(shape) == 1 else inputs
    width = outputs.shape[-1]
    outputs = keras.layers.Dense(width, kernel_initializer="identity", dtype="float32")(outputs)
    if len(shape) == 1:
        outputs = keras.layers.Reshape(())(outputs)
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(1.0), clone(case.loss, reduction="mean"), **options)
    return model


def _saving(case):
    model = _model(case, run_eagerly=True)
    expected = model.test_on_batch(case.y_pred, case.y_true)
    restored = save_and_load(model)
    if not isinstance(restored.loss, type(case.loss)):
        raise AssertionError(f"expected the loss {case.loss!r}, loaded {restored.loss!r}")
    got = restored.test_on_batch(case.y_pred, case.y_true)
    assert_close(got, expected, "evaluate after saving and loading", rtol=1e-6, atol=1e-7)
    assert_close(expected, _values(case).mean(), "evaluate against the mean of the values")


def _jit(case):
    model = _model(case, **compiled())
    loss = model.train_on_batch(case.y_pred, case.y_true)
    values, gradient = tree.map_structure(to_numpy, case.evaluate(case.y_pred, case.y_true))
    assert_close(loss, values.mean(), "loss of a compiled training step")
    gradient = gradient.reshape(
        len(case.y_pred), -1, gradient.shape[-1] if gradient.ndim > 1 else 1
    )
    expected = -gradient.sum((0, 1)) / values.size
    scale = float(np.abs(gradient).max(initial=1e-3))
    assert_close(
        model.trainable_variables[1],
        expected,
        "bias after a compiled training step against the eager gradient",
        atol=1e-5 * max(1.0, scale),
    )
    return why_not_compiled()


CHECKS = {
    "config": _config,
    "per sample": _per_sample,
    "reductions": _reductions,
    "sample weights": _sample_weights,
    "permutation": _permutation,
    "independence": _independence,
    "batch of one": _batch_of_one,
    "empty batch": _empty_batch,
    "labels": _labels,
    "alignment": _alignment,
    "gradient": _gradient,
    "finite": _finite,
    "half precision": _half_precision,
    "unknown batch": _unknown_batch,
    "sequences": _sequences,
    "saving": _saving,
    "jit": _jit,
}
