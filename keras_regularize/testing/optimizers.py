"""The contract of an optimizer."""

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
    quiet,
    run_checks,
    save_and_load,
    to_numpy,
    why_not_compiled,
)


def check_optimizer(
    optimizer: keras.optimizers.Optimizer,
    weights: Sequence[Any] | None = None,
    *,
    skip: Sequence[str] = (),
) -> dict[str, str]:
    """Checks that an optimizer keeps the contract of `compile(optimizer=…)`.

    | check | what must hold |
    |---|---|
    | `config` | config → JSON → object with every argument |
    | `descent` | twenty steps on `½‖w − target‖²` bring `w` nearer to the target |
    | `finite` | finite weights after zero, tiny and large gradients and zero weights |
    | `gradients` | the gradients handed in are not changed; `None` for a variable leaves it alone |
    | `half precision` | finite on bfloat16 and float16 variables |
    | `schedule` | a learning-rate schedule acts (if there is a `learning_rate` argument) |
    | `saving` | after saving and loading, the next training step is the same |
    | `jit` | a compiled training step equals the eager one (JAX and TensorFlow) |

    Args:
        optimizer: The optimizer to check; only its config is used.
        weights: Arrays to optimize; default: a `(4, 3)` kernel and a `(3,)` bias.
        skip: Names of checks that do not apply.

    Returns:
        What became of each check: "passed", "skipped", or "not applicable: " and why.

    Raises:
        AssertionError: If a check fails; names the check, and expected and received values.
        ValueError: If `skip` names no check.

    Cost: about thirty steps on a few numbers and three compiled steps.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    kr.testing.check_optimizer(keras.optimizers.SGD(0.1))
    ```
    """
    rng = np.random.default_rng(0)
    if weights is None:
        weights = [rng.normal(size=(4, 3)), rng.normal(size=(3,))]
    weights = [np.asarray(w, "float32") for w in weights]
    case = SimpleNamespace(optimizer=optimizer, weights=weights)
    return run_checks("check_optimizer", optimizer, CHECKS, case, skip)


def _variables(case, dtype="float32"):
    return [keras.Variable(w, dtype=dtype, name=f"w{i}") for i, w in enumerate(case.weights)]


def _config(case):
    assert_config_round_trip(case.optimizer, ignore=("kwargs",))


def _descent(case):
    optimizer, variables = clone(case.optimizer), _variables(case)
    targets = [w + 1.0 for w in case.weights]

    def distance():
        return sum(float(((to_numpy(v) - t) ** 2).sum()) for v, t in zip(variables, targets))

    start = distance()
    for _ in range(20):
        gradients = [to_numpy(v) - t for v, t in zip(variables, targets)]
        optimizer.apply([ops.convert_to_tensor(g) for g in gradients], variables)
    if not distance() < start:
        raise AssertionError(
            f"expected a squared distance to the minimum below {start:.6g} after 20 steps, "
            f"got {distance():.6g}"
        )


def _finite(case):
    for scale in (0.0, 1e-20, 1e4):
        for start in (0.0, 1.0):
            optimizer, variables = clone(case.optimizer), _variables(case)
            for variable in variables:
                variable.assign(start * to_numpy(variable))
            gradients = [ops.convert_to_tensor(scale * w) for w in case.weights]
            for _ in range(2):
                optimizer.apply(gradients, variables)
            assert_finite(
                [v.value for v in variables], f"weights × {start} after gradients × {scale}"
            )


def _gradients(case):
    optimizer, variables = clone(case.optimizer), _variables(case)
    gradients = [ops.convert_to_tensor(w + 1.0) for w in case.weights]
    optimizer.apply(gradients, variables)
    for gradient, w in zip(gradients, case.weights):
        assert_close(gradient, w + 1.0, "gradients after `apply`", rtol=0, atol=0)
    if len(variables) > 1:
        optimizer, variables = clone(case.optimizer), _variables(case)
        optimizer.build(variables)
        with quiet("Gradients do not exist"):
            optimizer.apply([gradients[0]] + [None] * (len(variables) - 1), variables)
        assert_close(variables[1], case.weights[1], "a variable without a gradient", rtol=0, atol=0)


def _half_precision(case):
    for dtype in ("bfloat16", "float16"):
        optimizer, variables = clone(case.optimizer), _variables(case, dtype)
        gradients = [ops.cast(ops.convert_to_tensor(w), dtype) for w in case.weights]
        for _ in range(2):
            optimizer.apply(gradients, variables)
        assert_finite([v.value for v in variables], f"{dtype} weights")


def _schedule(case):
    if "learning_rate" not in case.optimizer.get_config():
        return "there is no argument `learning_rate`"
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [0.1, 0.0])
    config = {**case.optimizer.get_config(), "learning_rate": schedule}
    optimizer = type(case.optimizer).from_config(config)
    variables = _variables(case)
    gradients = [ops.convert_to_tensor(w + 1.0) for w in case.weights]
    optimizer.apply(gradients, variables)
    optimizer.apply(gradients, variables)
    if abs(float(to_numpy(optimizer.learning_rate))) > 1e-12:
        raise AssertionError(f"expected the scheduled rate 0, got {optimizer.learning_rate}")
    assert_config_round_trip(optimizer, ignore=("kwargs",))


def _model(case, **options):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4, activation="tanh")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(2)(hidden))
    model.compile(clone(case.optimizer), "mse", **options)
    return model


def _data():
    rng = np.random.default_rng(2)
    return rng.normal(size=(6, 3)).astype("float32"), rng.normal(size=(6, 2)).astype("float32")


def _saving(case):
    x, y = _data()
    model = _model(case, run_eagerly=True)
    for _ in range(2):
        model.train_on_batch(x, y)
    restored = save_and_load(model)
    if len(restored.optimizer.variables) != len(model.optimizer.variables):
        raise AssertionError(
            f"expected {len(model.optimizer.variables)} optimizer variables after loading, "
            f"got {len(restored.optimizer.variables)}"
        )
    model.train_on_batch(x, y)
    restored.train_on_batch(x, y)
    for one, other in zip(model.weights, restored.weights):
        assert_close(other, one, f"`{one.path}` after saving, loading and one step", 1e-5, 1e-6)


def _jit(case):
    x, y = _data()
    models = [_model(case, run_eagerly=True)]
    models.append(_model(case, **compiled()))
    for model in models:
        for _ in range(2):
            model.train_on_batch(x, y)
    for one, other in zip(*(model.weights for model in models)):
        assert_close(other, one, f"`{one.path}` after two compiled steps", 1e-4, 1e-5)
    return why_not_compiled()


CHECKS = {
    "config": _config,
    "descent": _descent,
    "finite": _finite,
    "gradients": _gradients,
    "half precision": _half_precision,
    "schedule": _schedule,
    "saving": _saving,
    "jit": _jit,
}
