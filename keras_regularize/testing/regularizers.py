"""The contract of a weight or activity regularizer."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.regularizers.activity import DIVIDES
from keras_regularize.testing._common import (
    assert_close,
    assert_config_round_trip,
    assert_double_precision,
    assert_finite,
    assert_gradient_matches_finite_differences,
    cast,
    clone,
    compiled,
    dtype_of,
    run_checks,
    save_and_load,
    show,
    to_numpy,
    values_and_gradients,
    why_not_compiled,
    why_not_double_precision,
)


def check_regularizer(
    regularizer: keras.regularizers.Regularizer,
    weights: Any = None,
    *,
    activity: bool = False,
    shapes: Sequence[tuple[int, ...]] | None = None,
    skip: Sequence[str] = (),
) -> dict[str, str]:
    """Checks that a regularizer keeps the contract of `kernel_regularizer=…` or `activity_regularizer=…`.

    | check | what must hold |
    |---|---|
    | `config` | config → JSON → object with every argument and equal attributes |
    | `scalar` | a floating scalar, the same for a `keras.Variable` and a plain tensor |
    | `shapes` | finite value and gradient on `shapes`, or a ValueError |
    | `factor` | with `factor=0` exactly 0 (if there is such an argument) |
    | `gradient` | the gradient matches finite differences |
    | `degenerate` | finite value and gradient for zero, rank-one, equal-column, tiny and large weights |
    | `half precision` | the same in float16 and bfloat16, but for slopes that they cannot hold |
    | `double precision` | float64 stays so, in value and gradient (ours; not on JAX without 64 bits) |
    | `nan` | a weight that is NaN gives NaN |
    | `saving` | a layer with the regularizer survives `.keras` in safe mode |
    | `jit` | `fit` adds the value once, compiled as eager (JAX and TensorFlow) |

    Args:
        regularizer: The regularizer to check.
        weights: Array it applies to; default: a random `(4, 3)` kernel (or batch of activations).
        activity: Whether it is an activity regularizer, whose value Keras divides by the batch size since 3.14.
        shapes: Further shapes; default `(1, 5)`, `(5, 1)`, a convolution kernel and a bias, and for
            activities a batch of one and sequences.
        skip: Names of checks that do not apply.

    Returns:
        What became of each check: "passed", "skipped", or "not applicable: " and why.

    Raises:
        AssertionError: If a check fails; names the check, the input, and expected and received values.
        ValueError: If `skip` names no check.

    Cost: about twenty evaluations with gradient and one compiled step; below a second.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    kr.testing.check_regularizer(keras.regularizers.L2(0.01))
    ```
    """
    if weights is None:
        weights = np.random.default_rng(0).normal(size=(4, 3))
    case = SimpleNamespace(
        regularizer=regularizer, w=np.asarray(weights, "float32"), activity=activity
    )
    if shapes is None:
        shapes = ((1, 3), (2, 5, 3)) if activity else ((1, 5), (5, 1), (3, 3, 2, 4), (6,))
    case.shapes = shapes
    case.evaluate = values_and_gradients(lambda w: regularizer(w))
    case.skip = skip
    return run_checks("check_regularizer", regularizer, CHECKS, case, skip)


def _config(case):
    assert_config_round_trip(case.regularizer)


def _scalar(case):
    value = case.regularizer(ops.convert_to_tensor(case.w))
    if tuple(value.shape) != () or not keras.backend.is_float_dtype(dtype_of(value)):
        raise AssertionError(
            f"expected a floating scalar, got {dtype_of(value)} of shape {tuple(value.shape)}"
        )
    if not case.activity:
        of_variable = case.regularizer(keras.Variable(case.w, dtype="float32"))
        assert_close(of_variable, value, "value for a keras.Variable against that for a tensor")
    assert_close(case.evaluate(case.w)[0], value, "traced value against eager value")


def _shapes(case):
    rng = np.random.default_rng(1)
    for shape in case.shapes:
        try:
            value, gradient = case.evaluate(rng.normal(size=shape).astype("float32"))
        except ValueError:
            continue  # Refused, as it should be if it makes no sense there.
        assert_finite((value, gradient), f"value or gradient on shape {shape}")


def _factor(case):
    if "factor" not in case.regularizer.get_config():
        return "there is no argument `factor`"
    value = to_numpy(clone(case.regularizer, factor=0.0)(ops.convert_to_tensor(case.w)))
    if value != 0:
        raise AssertionError(f"factor=0: expected 0, got {value}")


def _gradient(case):
    assert_gradient_matches_finite_differences(
        lambda w: case.regularizer(w), case.w, what="the regularizer"
    )


def _degenerate(case):
    w = case.w
    rank_one = np.broadcast_to(w[..., :1], w.shape)
    for what, given in {
        "zero": 0.0 * w,
        "ones": np.ones_like(w),
        "equal columns": rank_one,
        "opposite columns": rank_one * np.resize([1.0, -1.0], w.shape[-1:]).astype("float32"),
        "one zero column": w * (np.arange(w.shape[-1]) > 0),
        "tiny": 1e-20 * w,
        "large": 1e4 * w,
    }.items():
        value, gradient = case.evaluate(given.astype("float32"))
        assert_finite(value, f"value for {what} weights {show(given)}")
        assert_finite(gradient, f"gradient for {what} weights {show(given)}")


def _half_precision(case):
    for dtype, largest in {"float16": 65504.0, "bfloat16": 3.39e38}.items():
        for what, given in {
            "random": case.w,
            "zero": 0.0 * case.w,
            "large": 100.0 * case.w,
        }.items():
            value, gradient = case.evaluate(cast(given, dtype))
            if dtype_of(gradient) != dtype:
                raise AssertionError(f"expected a {dtype} gradient, got {dtype_of(gradient)}")
            assert_finite(value, f"value for {what} {dtype} weights {show(given)}")
            found = to_numpy(gradient)
            if not np.isfinite(found).all():
                # A slope beyond the dtype overflows rightly, such as that of a power of large weights.
                exact = np.abs(to_numpy(case.evaluate(cast(given, "float32"))[1]))
                beyond = np.isinf(found) & (exact > 0.99 * largest)
                found = np.where(beyond, 0.0, found)
            assert_finite(found, f"gradient for {what} {dtype} weights {show(given)}")


def _double_precision(case):
    if reason := why_not_double_precision(case.regularizer, case.skip):
        return reason
    assert_double_precision(lambda w: case.regularizer(w), case.w)


def _nan(case):
    w = case.w.copy()
    w.flat[1] = np.nan
    value = to_numpy(case.evaluate(w)[0])
    if not np.isnan(value):
        raise AssertionError(f"expected NaN for a weight that is NaN, got {value}")


def _model(case, **options):
    """A model whose penalty is that of the regularizer on `case.w`, with a data loss of 0."""
    w = case.w
    regularizer = clone(case.regularizer)
    if case.activity:
        inputs = keras.Input(w.shape[1:])
        outputs = keras.layers.Dense(
            w.shape[-1], kernel_initializer="identity", activity_regularizer=regularizer
        )(inputs)
        x = w
    else:
        inputs = keras.Input((1,))
        # An embedding holds a kernel of any `(rows, columns)`; the gather adds no gradient of its own.
        layer = keras.layers.Embedding(
            w.reshape((-1, w.shape[-1])).shape[0],
            w.shape[-1],
            embeddings_initializer=keras.initializers.Constant(
                w.reshape((-1, w.shape[-1])).tolist()
            ),
            embeddings_regularizer=regularizer,
        )
        outputs = layer(inputs)
        x = np.zeros((2, 1), "float32")
    model = keras.Model(inputs, keras.layers.Rescaling(0.0)(outputs))
    model.compile(keras.optimizers.SGD(1.0), "mse", **options)
    return model, x, np.zeros(tuple(np.shape(model(x))), "float32")


def _expected(case):
    if case.activity:
        value, gradient = case.evaluate(case.w)
        return to_numpy(value) / (len(case.w) if DIVIDES else 1), None
    value, gradient = case.evaluate(case.w.reshape((-1, case.w.shape[-1])))
    return to_numpy(value), to_numpy(gradient)


def _saving(case):
    model, x, y = _model(case, run_eagerly=True)
    expected = model.test_on_batch(x, y)
    got = save_and_load(model).test_on_batch(x, y)
    assert_close(got, expected, "evaluate after saving and loading", rtol=1e-6, atol=1e-7)


def _jit(case):
    model, x, y = _model(case, **compiled())
    value, gradient = _expected(case)
    loss = model.train_on_batch(x, y)
    assert_close(loss, value, "penalty in the loss of a compiled training step")
    if gradient is not None:
        w = case.w.reshape((-1, case.w.shape[-1]))
        scale = float(np.abs(gradient).max(initial=1.0))
        assert_close(
            model.trainable_variables[0],
            w - gradient,
            "weights after a compiled training step against the eager gradient",
            atol=1e-5 * scale,
        )
    return why_not_compiled()


CHECKS = {
    "config": _config,
    "scalar": _scalar,
    "shapes": _shapes,
    "factor": _factor,
    "gradient": _gradient,
    "degenerate": _degenerate,
    "half precision": _half_precision,
    "double precision": _double_precision,
    "nan": _nan,
    "saving": _saving,
    "jit": _jit,
}
