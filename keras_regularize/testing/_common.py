"""What the checks share: running them one by one, and the assertions they are made of."""

import contextlib
import inspect
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_regularize import autodiff


def run_checks(
    name: str, subject: Any, checks: dict[str, Callable], case: Any, skip: Iterable[str]
) -> dict[str, str]:
    """What became of every check on `case`; one that does not apply returns why.

    A failure or an exception becomes an AssertionError that names the check.
    """
    unknown = sorted(set(skip) - set(checks))
    if unknown:
        raise ValueError(
            f"`skip` must name checks of `{name}`, which are {sorted(checks)}. Received: skip={unknown}"
        )
    title = getattr(subject, "__name__", None) or type(subject).__name__
    report = {}
    for label, check in checks.items():
        if label in skip:
            report[label] = "skipped"
            continue
        try:
            reason = check(case)
        except AssertionError as error:
            raise AssertionError(f'{name}({title}), check "{label}": {error}') from error
        except Exception as error:
            raise AssertionError(
                f'{name}({title}), check "{label}": raised {type(error).__name__}: {error}'
            ) from error
        report[label] = f"not applicable: {reason}" if reason else "passed"
    return report


def is_jax() -> bool:
    return keras.backend.backend() == "jax"


def compilable() -> bool:
    """Whether a tiny model compiles in well below a second (`torch.compile` takes minutes)."""
    return keras.backend.backend() != "torch"


def compiled() -> dict[str, bool]:
    """The arguments of `compile` for a compiled step, where there is one."""
    return {"jit_compile": True} if compilable() else {}


def why_not_compiled() -> str | None:
    """What a check of compiled code reports on torch, where its steps ran as they do in `fit`: eagerly."""
    return None if compilable() else "`torch.compile` takes minutes, so the steps ran eagerly"


def fused(fn: Callable) -> Callable:
    """`fn` of arrays; on JAX one program, where each operation on a new shape costs a compilation."""

    def body(carry, args):
        return carry, fn(*args)

    def run(*args):
        args = tree.map_structure(ops.convert_to_tensor, args)
        if not is_jax():
            return fn(*args)
        # A scan of one step is what compiles without naming the backend.
        args = tree.map_structure(lambda a: ops.expand_dims(a, 0), args)
        _, result = ops.scan(body, np.float32(0.0), args)
        return tree.map_structure(lambda a: a[0], result)

    return run


def to_numpy(x: Any) -> np.ndarray:
    """A tensor as a NumPy array; half precision becomes float32."""
    if isinstance(x, keras.Variable):
        x = x.value
    if ops.is_tensor(x) and keras.backend.standardize_dtype(x.dtype) in ("bfloat16", "float16"):
        x = ops.cast(x, "float32")
    return np.asarray(ops.convert_to_numpy(x))


def dtype_of(x: Any) -> str:
    return keras.backend.standardize_dtype(x.dtype)


def cast(x: Any, dtype: str) -> Any:
    """Every floating array of a structure as a tensor of `dtype`, the others as they are."""

    def one(a):
        a = np.asarray(a)
        return ops.cast(ops.convert_to_tensor(a), dtype if a.dtype.kind == "f" else str(a.dtype))

    return tree.map_structure(one, x)


def show(x: Any) -> str:
    return np.array2string(np.asarray(x), precision=5, threshold=12, edgeitems=3).replace("\n", "")


def assert_close(
    actual: Any, expected: Any, what: str, rtol: float = 1e-4, atol: float = 1e-5
) -> None:
    actual, expected = to_numpy(actual), to_numpy(expected)
    if actual.shape != expected.shape:
        raise AssertionError(f"{what}: expected shape {expected.shape}, got {actual.shape}")
    with np.errstate(invalid="ignore"):
        wrong = ~np.isclose(actual, expected, rtol=rtol, atol=atol, equal_nan=False)
    if wrong.any():
        raise AssertionError(f"{what}: expected {show(expected)}, got {show(actual)}")


def assert_finite(x: Any, what: str) -> None:
    for leaf in tree.flatten(x):
        array = to_numpy(leaf)
        if not np.isfinite(array).all():
            raise AssertionError(f"{what}: expected finite numbers, got {show(array)}")


def assert_finite_gradients(fn: Callable, x: Any, *, what: str = "fn") -> None:
    """Asserts that the value and the gradient of `fn` are finite at `x`.

    A finite value says little: `where`, `clip` and `max` hide an infinite or NaN gradient at exactly the
    inputs that a long training run sooner or later meets.

    Args:
        fn: Maps the floating tensor, or nested structure of them, `x` to a tensor of any shape, whose sum
            is differentiated.
        x: Array or nested structure of arrays.
        what: How the error message calls `fn`.

    Raises:
        AssertionError: If a value or a gradient is infinite or NaN; names the input.

    Cost: one forward and one backward pass.

    Example:

    ```python
    import keras_regularize as kr
    import numpy as np
    from keras import ops

    kr.testing.assert_finite_gradients(ops.softmax, np.array([[0.0, 1e4, -1e4]], "float32"))
    ```
    """
    value, gradient = values_and_gradients(fn)(x)
    shown = ", ".join(show(to_numpy(leaf)) for leaf in tree.flatten(x))
    assert_finite(value, f"value of {what} at {shown}")
    assert_finite(gradient, f"gradient of {what} at {shown}")


def values_and_gradients(fn: Callable) -> Callable:
    """`fn(x, *constants)` and the gradient of its sum with respect to `x`, as one program on JAX."""

    def evaluate(x, *constants):
        def total(x):
            value = fn(x, *constants)
            return ops.sum(value), value

        (_, value), gradient = autodiff.value_and_grad(total, has_aux=True)(x)
        return value, gradient

    return fused(evaluate)


def float_width() -> str:
    """The widest float that gradients can be computed in here (JAX has float64 only when it is switched on)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dtype_of(ops.cast(ops.convert_to_tensor(np.zeros(1, "float32")), "float64"))


def assert_gradient_matches_finite_differences(
    fn: Callable,
    x: Any,
    *,
    directions: int = 2,
    rtol: float | None = None,
    seed: int = 0,
    what: str = "fn",
) -> None:
    r"""Asserts that the gradient of `fn` agrees with finite differences in random directions.

    For a random direction $d$ and random positive weights $c$ on the outputs, $\nabla (c \cdot f)(x) \cdot d$ is
    compared with the five-point quotient

    $$\frac{f(x-2hd) - 8 f(x-hd) + 8 f(x+hd) - f(x+2hd)}{12\,h},$$

    in float64 where the backend and `fn` keep it, else in float32 with a wider step and tolerance. Of
    several steps one must agree, so that a kink near `x` does no harm; a gradient that is wrong on purpose
    (straight-through estimators) fails.

    Args:
        fn: Maps the floating tensor, or nested structure of them, `x` to a tensor of any shape.
        x: Array or nested structure of arrays, away from points where `fn` has no derivative.
        directions: Number of random directions.
        rtol: Relative tolerance; default `1e-6` in float64 and `1e-2` in float32.
        seed: Seed of the directions.
        what: How the error message calls `fn`.

    Raises:
        AssertionError: If the two disagree; names the direction, the expected and the received slope.

    Cost: from one forward-backward pass up to twenty per direction, on small data.

    Example:

    ```python
    import keras_regularize as kr
    import numpy as np
    from keras import ops

    kr.testing.assert_gradient_matches_finite_differences(ops.tanh, np.array([0.3, -1.2]))
    ```
    """
    rng = np.random.default_rng(seed)
    x = tree.map_structure(lambda a: np.asarray(a, "float64"), x)

    def weighted(x):
        value = fn(x)
        weights = np.random.default_rng(seed).uniform(0.5, 1.5, tuple(value.shape))
        return value * ops.cast(ops.convert_to_tensor(weights), dtype_of(value))

    # Value and gradient from one program: a second compilation would cost more than it saves.
    evaluate = values_and_gradients(weighted)
    width = float_width()
    value, gradient = evaluate(cast(x, width))
    narrow = dtype_of(value) != "float64"
    if narrow and width == "float64":
        width = "float32"
        value, gradient = evaluate(cast(x, width))
    gradient = tree.map_structure(lambda g: to_numpy(g).astype("float64"), gradient)
    scale = max(1e-3, float(np.sqrt(np.mean([np.mean(a**2) for a in tree.flatten(x)]))))
    norm = np.sqrt(sum(float((g**2).sum()) for g in tree.flatten(gradient)))

    def quotient(direction, h):
        """The difference quotient, and how much rounding to float32 or float64 can add to it."""
        total = size = 0.0
        for k, weight in ((-2, 1), (-1, -8), (1, 8), (2, -1)):
            moved = tree.map_structure(lambda a, d: a + k * h * d, x, direction)  # noqa: B023
            values = to_numpy(evaluate(cast(moved, width))[0]).astype("float64")
            total += weight * float(values.sum())
            size = max(size, float(np.abs(values).sum()))
        return total / (12 * h), 10 * size / h

    def agrees(slope, found, steps, tolerance, epsilon):
        found[:] = [quotient(direction, step * scale) for step in steps]
        size = max(abs(slope), 0.1 * norm)
        return any(
            abs(q - slope) <= tolerance * size + epsilon * rounding + 1e-9 for q, rounding in found
        )

    for number in range(directions):
        direction = tree.map_structure(lambda a: rng.standard_normal(a.shape), x)
        length = np.sqrt(sum(float((d**2).sum()) for d in tree.flatten(direction))) or 1.0
        direction = tree.map_structure(lambda d, length=length: d / length, direction)
        pairs = zip(tree.flatten(gradient), tree.flatten(direction))
        slope = sum(float((g * d).sum()) for g, d in pairs)
        found: list[tuple[float, float]] = []
        if not narrow:
            if agrees(slope, found, (1e-3, 1e-4, 1e-5), rtol or 1e-6, 2.3e-16):
                continue
            values = [q for q, _ in found]
            smooth = max(values) - min(values) <= 1e-5 * max(abs(slope), 0.1 * norm)
        # Several operations of Keras compute float64 in float32 on torch: that shows as noise.
        if narrow or not smooth:
            if agrees(slope, found, (3e-2, 4e-3), rtol or 1e-2, 1.2e-7):
                continue
        raise AssertionError(
            f"gradient of {what} at {', '.join(show(a) for a in tree.flatten(x))}: expected the slope "
            f"{found[0][0]:.6g} (finite differences, random direction {number}), got {slope:.6g}"
        )


def assert_config_round_trip(obj: Any, ignore: Sequence[str] = ()) -> None:
    """Asserts that an object survives config → JSON → object with every argument and attribute.

    Args:
        obj: Any Keras-serializable object: a loss, regularizer, layer, metric, optimizer …
        ignore: Constructor arguments that need not be in the config.

    Raises:
        AssertionError: If the config is not plain JSON, misses a constructor argument, the class is not
            registered for serialization, or the restored object differs.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    kr.testing.assert_config_round_trip(keras.regularizers.L2(0.01))
    ```
    """
    cls = type(obj)
    config = obj.get_config()
    try:
        text = json.dumps(config)
    except TypeError as error:
        raise AssertionError(
            f"get_config() must return plain Python values, got {config!r}: {error}"
        ) from error
    missing = [
        name
        for name, parameter in inspect.signature(cls.__init__).parameters.items()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        and name not in ("self", *ignore)
        and name not in config
    ]
    if missing:
        raise AssertionError(
            f"get_config() must return every constructor argument; {missing} are missing from "
            f"{sorted(config)}"
        )
    _assert_same(obj, cls.from_config(json.loads(text)), "from_config(get_config())")
    serialized = json.loads(json.dumps(keras.saving.serialize_keras_object(obj)))
    try:
        restored = keras.saving.deserialize_keras_object(serialized, safe_mode=True)
    except Exception as error:
        raise AssertionError(
            f"keras.saving.deserialize_keras_object failed; is {cls.__name__} registered with "
            f"`@keras.saving.register_keras_serializable`? {type(error).__name__}: {error}"
        ) from error
    _assert_same(obj, restored, "deserialize_keras_object(serialize_keras_object(…))")


def _assert_same(obj, restored, route):
    if type(restored) is not type(obj):
        raise AssertionError(f"{route}: expected a {type(obj).__name__}, got {restored!r}")
    before, after = json.dumps(obj.get_config()), json.dumps(restored.get_config())
    if before != after:
        raise AssertionError(f"{route}: expected the config {before}, got {after}")
    names = set(inspect.signature(type(obj).__init__).parameters)
    keeps_counters = (keras.Operation, keras.Metric, keras.optimizers.Optimizer)
    if not isinstance(obj, keeps_counters):
        names |= set(vars(obj))
    for name in sorted(names):
        if not hasattr(obj, name) or callable(getattr(obj, name)):
            continue
        expected, got = getattr(obj, name), getattr(restored, name, None)
        if _plain(expected) and not _equal(expected, got):
            raise AssertionError(f"{route}: attribute `{name}` expected {expected!r}, got {got!r}")


def _plain(value):
    if isinstance(value, (list, tuple)):
        return all(_plain(v) for v in value)
    if isinstance(value, dict):
        return all(_plain(v) for v in value.values())
    return isinstance(value, (bool, int, float, str, type(None), np.ndarray, np.generic))


def _equal(a, b):
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(np.asarray(a), np.asarray(b))
    if isinstance(a, (list, tuple)):
        return isinstance(b, (list, tuple)) and len(a) == len(b) and all(map(_equal, a, b))
    return a == b


def clone(obj: Any, **changes: Any) -> Any:
    """A fresh object with the config of `obj`, some arguments changed."""
    return type(obj).from_config({**obj.get_config(), **changes})


def save_and_load(model: keras.Model) -> keras.Model:
    """The model read back from a `.keras` file in safe mode."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.keras")
        model.save(path)
        return keras.saving.load_model(path, safe_mode=True)


@contextlib.contextmanager
def quiet(message):
    """Context that ignores the Keras warning that contains `message`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", f".*{message}")
        yield


class Symbolic(keras.layers.Layer):
    """A function as a layer, for calling it on inputs of unknown batch size."""

    def __init__(self, fn):
        super().__init__(dtype="float32")
        self.fn = fn

    def call(self, *inputs):
        return self.fn(*inputs)


def assert_unknown_batch(fn: Callable, inputs: Sequence[Any], output_shape: tuple) -> None:
    """Asserts that `fn` can be traced with an unknown batch size and gives the expected shape."""
    symbols = tree.map_structure(
        lambda a: keras.Input(np.shape(a)[1:], dtype=str(np.asarray(a).dtype)), list(inputs)
    )
    output = Symbolic(fn)(*symbols)
    if tuple(output.shape) != (None, *output_shape[1:]):
        raise AssertionError(
            f"called with an unknown batch size: expected shape {(None, *output_shape[1:])}, "
            f"got {tuple(output.shape)}"
        )


def why_not_double_precision(symbol: Any, skip: Sequence[str]) -> str | None:
    """Why float64 need not stay so, or None: functions of Keras compute some of it in float32 on torch."""
    kind = symbol if hasattr(symbol, "__name__") else type(symbol)
    if not kind.__module__.startswith("keras_regularize."):
        return "promised by the symbols of keras_regularize"
    if float_width() != "float64":
        return "JAX runs without 64 bits"
    return "there is no gradient to compare" if "gradient" in skip else None


def assert_double_precision(fn: Callable, x: Any) -> None:
    """Asserts that float64 stays so in value and gradient, dtype and digits (not on JAX without 64 bits)."""
    if float_width() != "float64":
        return
    x = np.asarray(x, "float64")
    evaluate = values_and_gradients(fn)
    value, gradient = evaluate(cast(x, "float64"))
    for what, tensor in (("value", value), ("gradient", gradient)):
        if dtype_of(tensor) != "float64":
            raise AssertionError(f"expected a float64 {what}, got {dtype_of(tensor)}")
    rng = np.random.default_rng(0)
    direction = rng.standard_normal(x.shape)
    slope, h = float((to_numpy(gradient) * direction).sum()), 1e-4
    total = size = 0.0
    for k, weight in ((-2, 1), (-1, -8), (1, 8), (2, -1)):
        found = to_numpy(evaluate(cast(x + k * h * direction, "float64"))[0])
        total, size = total + weight * found.sum(), max(size, np.abs(found).sum())
    norm = np.linalg.norm(to_numpy(gradient)) * np.linalg.norm(direction)
    if not abs(total / (12 * h) - slope) <= 1e-8 * norm + 1e-10 * size + 1e-12:
        raise AssertionError(
            f"expected the slope {total / (12 * h):.12g} to float64 (finite differences), got {slope:.12g}"
        )
