"""The contract of a weight constraint."""

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
    cast,
    clone,
    compiled,
    dtype_of,
    fused,
    run_checks,
    save_and_load,
    show,
    to_numpy,
    why_not_compiled,
    why_not_double_precision,
)


def check_constraint(
    constraint: keras.constraints.Constraint,
    weights: Any = None,
    *,
    shapes: Sequence[tuple[int, ...]] = ((1, 5), (5, 1), (3, 3, 2, 4), (6,)),
    skip: Sequence[str] = (),
) -> dict[str, str]:
    """Checks that a constraint keeps the contract of `kernel_constraint=…`.

    | check | what must hold |
    |---|---|
    | `config` | config → JSON → object with every argument and equal attributes |
    | `shape` | shape and dtype are kept, for a `keras.Variable` and for a plain tensor |
    | `shapes` | finite on `shapes`, or a ValueError |
    | `idempotent` | a constrained weight stays as it is (not so for shrinkage steps) |
    | `degenerate` | finite for zero, equal-column, tiny and large weights |
    | `half precision` | float16 and bfloat16 weights stay so, and are finite |
    | `double precision` | float64 weights stay so, in their digits too (ours; not on JAX without 64 bits) |
    | `nan` | a weight that is NaN stays so |
    | `saving` | a layer with the constraint survives `.keras` in safe mode |
    | `jit` | `fit` applies it once after an update, compiled as eager (JAX and TensorFlow) |

    Args:
        constraint: The constraint to check.
        weights: Array it applies to; default: a random `(4, 3)` kernel.
        shapes: Further shapes.
        skip: Names of checks that do not apply, e.g. `("idempotent",)`.

    Returns:
        What became of each check: "passed", "skipped", or "not applicable: " and why.

    Raises:
        AssertionError: If a check fails; names the check, the input, and expected and received values.
        ValueError: If `skip` names no check.

    Cost: about fifteen evaluations and one compiled step.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    kr.testing.check_constraint(keras.constraints.NonNeg())
    ```
    """
    if weights is None:
        weights = np.random.default_rng(0).normal(size=(4, 3))
    case = SimpleNamespace(constraint=constraint, w=np.asarray(weights, "float32"), shapes=shapes)
    case.apply = fused(lambda w: constraint(w))
    case.skip = skip
    return run_checks("check_constraint", constraint, CHECKS, case, skip)


def _config(case):
    assert_config_round_trip(case.constraint)


def _shape(case):
    eager = case.constraint(ops.convert_to_tensor(case.w))
    for what, got in {
        "a tensor": eager,
        "a keras.Variable": case.constraint(keras.Variable(case.w, dtype="float32")),
    }.items():
        if tuple(got.shape) != case.w.shape or dtype_of(got) != "float32":
            raise AssertionError(
                f"for {what}: expected float32 of shape {case.w.shape}, "
                f"got {dtype_of(got)} of shape {tuple(got.shape)}"
            )
        assert_close(got, eager, f"value for {what}")
    assert_close(case.apply(case.w), eager, "traced value against eager value")


def _shapes(case):
    rng = np.random.default_rng(1)
    for shape in case.shapes:
        try:
            value = case.apply(rng.normal(size=shape).astype("float32"))
        except ValueError:
            continue
        assert_finite(value, f"value on shape {shape}")
        if tuple(value.shape) != shape:
            raise AssertionError(f"expected shape {shape}, got {tuple(value.shape)}")


def _idempotent(case):
    once = to_numpy(case.apply(case.w))
    assert_close(case.apply(once), once, "the constraint applied twice")


def _degenerate(case):
    w = case.w
    for what, given in {
        "zero": 0.0 * w,
        "ones": np.ones_like(w),
        "equal columns": np.broadcast_to(w[..., :1], w.shape),
        "tiny": 1e-20 * w,
        "large": 1e4 * w,
    }.items():
        assert_finite(case.apply(given.astype("float32")), f"{what} weights {show(given)}")


def _half_precision(case):
    for dtype in ("float16", "bfloat16"):
        for what, given in {"random": case.w, "zero": 0.0 * case.w}.items():
            value = case.apply(cast(given, dtype))
            if dtype_of(value) != dtype:
                raise AssertionError(f"expected {dtype} weights to stay so, got {dtype_of(value)}")
            assert_finite(value, f"{what} {dtype} weights {show(given)}")


def _double_precision(case):
    if reason := why_not_double_precision(case.constraint, case.skip):
        return reason
    # The same digits in another place, which float32 cannot tell apart.
    w = case.w.astype("float64")
    values = [to_numpy(case.apply(cast(w * scale, "float64"))) for scale in (1.0, 1.0 + 2.0**-40)]
    if values[0].dtype != "float64":
        raise AssertionError(f"expected float64 weights to stay so, got {values[0].dtype}")
    if not 0 < np.abs(values[1] - values[0]).max() < 1e-11 * np.abs(w).max():
        raise AssertionError("expected weights to the digits of float64, got those of float32")


def _nan(case):
    w = case.w.copy()
    w.flat[1] = np.nan
    value = to_numpy(case.apply(w))
    if not np.isnan(value.flat[1]):
        raise AssertionError(f"expected a weight that is NaN to stay so, got {value.flat[1]}")


def _model(case, **options):
    w = case.w.reshape((-1, case.w.shape[-1]))
    layer = keras.layers.Dense(
        w.shape[-1],
        use_bias=False,
        kernel_initializer=keras.initializers.Constant(w.tolist()),
        kernel_constraint=clone(case.constraint),
    )
    inputs = keras.Input((len(w),))
    model = keras.Model(inputs, layer(inputs))
    model.compile(keras.optimizers.SGD(0.0), "mse", **options)
    return model, np.ones((2, len(w)), "float32"), np.zeros((2, w.shape[-1]), "float32")


def _saving(case):
    model, x, y = _model(case, run_eagerly=True)
    restored = save_and_load(model)
    loaded = restored.layers[-1].kernel_constraint
    if not isinstance(loaded, type(case.constraint)):
        raise AssertionError(f"expected the constraint {case.constraint!r}, loaded {loaded!r}")
    assert_close(restored.test_on_batch(x, y), model.test_on_batch(x, y), "evaluate after loading")


def _jit(case):
    model, x, y = _model(case, **compiled())
    model.train_on_batch(x, y)
    w = case.w.reshape((-1, case.w.shape[-1]))
    assert_close(
        model.trainable_variables[0],
        case.constraint(ops.convert_to_tensor(w)),
        "weights after a training step with learning rate 0",
    )
    return why_not_compiled()


CHECKS = {
    "config": _config,
    "shape": _shape,
    "shapes": _shapes,
    "idempotent": _idempotent,
    "degenerate": _degenerate,
    "half precision": _half_precision,
    "double precision": _double_precision,
    "nan": _nan,
    "saving": _saving,
    "jit": _jit,
}
