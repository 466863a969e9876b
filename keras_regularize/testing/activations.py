"""The contract of an activation function."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.testing._common import (
    assert_close,
    assert_double_precision,
    assert_finite,
    assert_gradient_matches_finite_differences,
    assert_unknown_batch,
    cast,
    dtype_of,
    run_checks,
    save_and_load,
    show,
    to_numpy,
    values_and_gradients,
    why_not_double_precision,
)


def check_activation(
    activation: Callable,
    x: Any = None,
    *,
    extremes: Sequence[Any] | None = None,
    skip: Sequence[str] = (),
) -> dict[str, str]:
    """Checks that a function keeps the contract of `activation=…`.

    | check | what must hold |
    |---|---|
    | `shape` | shape and dtype are kept, traced as eager |
    | `independence` | a sample's value does not depend on the others; batch of one, empty batch |
    | `gradient` | the gradient matches finite differences |
    | `finite` | value and gradient are finite at `extremes` |
    | `half precision` | the same in float16 and bfloat16, close to float32 |
    | `double precision` | float64 stays so, in value and gradient (ours; not on JAX without 64 bits) |
    | `nan` | NaN gives NaN, and leaves the other samples alone |
    | `unknown batch` | traceable with an unknown batch size |
    | `saving` | a layer with the activation survives `.keras` in safe mode (registered functions) |

    Args:
        activation: Function of one tensor (further arguments have defaults).
        x: Array with a batch axis; default: random `(4, 3)`.
        extremes: Arrays of inputs; default: zeros, ±1e4 and equal entries.
        skip: Names of checks that do not apply, e.g. `("gradient",)` for straight-through functions.

    Returns:
        What became of each check: "passed", "skipped", or "not applicable: " and why.

    Raises:
        AssertionError: If a check fails; names the check, the input, and expected and received values.
        ValueError: If `skip` names no check.

    Cost: about fifteen forward and ten backward passes.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    kr.testing.check_activation(keras.activations.softmax)
    ```
    """
    if x is None:
        x = np.random.default_rng(0).normal(0.0, 2.0, (4, 3))
    x = np.asarray(x, "float32")
    if extremes is None:
        one = np.full_like(x, -1e4)
        one[..., 0] = 1e4
        extremes = [0.0 * x, 1e4 * np.sign(x), one, -one, np.broadcast_to(x[..., :1], x.shape)]
    case = SimpleNamespace(activation=activation, x=x, extremes=extremes)
    case.evaluate = values_and_gradients(lambda x: activation(x))
    case.skip = skip
    return run_checks("check_activation", activation, CHECKS, case, skip)


def _shape(case):
    eager = case.activation(ops.convert_to_tensor(case.x))
    if tuple(eager.shape) != case.x.shape or dtype_of(eager) != "float32":
        raise AssertionError(
            f"expected float32 of shape {case.x.shape}, got {dtype_of(eager)} of shape "
            f"{tuple(eager.shape)}"
        )
    assert_close(case.evaluate(case.x)[0], eager, "traced value against eager value")


def _independence(case):
    whole = to_numpy(case.evaluate(case.x)[0])
    alone = case.evaluate(case.x[:1])[0]
    assert_close(alone, whole[:1], "value of the first sample in a batch of one")
    value, gradient = case.evaluate(case.x[:0])
    if tuple(value.shape) != case.x[:0].shape:
        raise AssertionError(f"empty batch: expected {case.x[:0].shape}, got {tuple(value.shape)}")


def _gradient(case):
    assert_gradient_matches_finite_differences(
        lambda x: case.activation(x), case.x, what="the activation"
    )


def _finite(case):
    for extreme in case.extremes:
        value, gradient = case.evaluate(np.asarray(extreme, "float32"))
        assert_finite(value, f"value at {show(extreme)}")
        assert_finite(gradient, f"gradient at {show(extreme)}")


def _half_precision(case):
    wide = to_numpy(case.evaluate(case.x)[0])
    scale = float(np.abs(wide).max(initial=1.0))
    for dtype in ("float16", "bfloat16"):
        value, gradient = case.evaluate(cast(case.x, dtype))
        for what, tensor in (("value", value), ("gradient", gradient)):
            if dtype_of(tensor) != dtype:
                raise AssertionError(f"expected a {dtype} {what}, got {dtype_of(tensor)}")
        assert_close(value, wide, f"{dtype} against float32", rtol=3e-2, atol=3e-2 * scale)
        for extreme in case.extremes:
            value, gradient = case.evaluate(cast(np.asarray(extreme, "float32"), dtype))
            assert_finite(value, f"value at {dtype} {show(extreme)}")
            assert_finite(gradient, f"gradient at {dtype} {show(extreme)}")


def _double_precision(case):
    if reason := why_not_double_precision(case.activation, case.skip):
        return reason
    assert_double_precision(lambda x: case.activation(x), case.x)


def _nan(case):
    x = case.x.copy()
    x.flat[1] = np.nan
    value, plain = to_numpy(case.evaluate(x)[0]), to_numpy(case.evaluate(case.x)[0])
    if not np.isnan(value.flat[1]):
        raise AssertionError(f"expected NaN where the input is NaN, got {value.flat[1]}")
    assert_close(value[1:], plain[1:], "samples beside one with NaN")


def _unknown_batch(case):
    assert_unknown_batch(case.activation, [case.x], case.x.shape)


def _saving(case):
    inputs = keras.Input(case.x.shape[1:])
    model = keras.Model(inputs, keras.layers.Activation(case.activation)(inputs))
    expected = model(case.x)
    assert_close(expected, case.evaluate(case.x)[0], "keras.layers.Activation(…)")
    assert_close(save_and_load(model)(case.x), expected, "output after saving and loading")


CHECKS = {
    "shape": _shape,
    "independence": _independence,
    "gradient": _gradient,
    "finite": _finite,
    "half precision": _half_precision,
    "double precision": _double_precision,
    "nan": _nan,
    "unknown batch": _unknown_batch,
    "saving": _saving,
}
