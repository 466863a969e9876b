"""The contract of a model wrapper with its own train step."""

import functools
import os
import tempfile
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np

from keras_regularize.models import RegularizedModel
from keras_regularize.testing._common import (
    assert_close,
    assert_config_round_trip,
    assert_finite,
    compiled,
    run_checks,
    save_and_load,
    to_numpy,
    why_not_compiled,
)


def check_model(
    wrap: Callable[[keras.Model], keras.Model],
    *,
    neutral: Callable[[keras.Model], keras.Model] | None = None,
    network: Callable[[], keras.Model] | None = None,
    x: Any = None,
    y: Any = None,
    loss: Any = None,
    skip: Sequence[str] = (),
) -> dict[str, str]:
    """Checks that a wrapper such as `kr.models.SAM` keeps the contract of a Keras model.

    | check | what must hold |
    |---|---|
    | `construction` | something that is no model raises ValueError |
    | `config` | config → JSON → wrapper with every argument |
    | `fit` | finite losses and metrics; the wrapped model's own weights move, frozen ones do not |
    | `neutral` | `neutral(model)` trains exactly as the plain model: batch norm, dropout, penalties |
    | `inference` | `predict` and `evaluate` are those of the wrapped model |
    | `batch norm` | batch statistics after a step are those of one plain pass |
    | `saving` | after `.keras` in safe mode, training goes on with the same next step |
    | `weights` | weights saved from one wrapper load into a fresh one |
    | `jit` | a compiled step equals an eager one (JAX and TensorFlow); the other checks run eagerly |
    | `mixed precision` | finite steps under `mixed_float16` |

    Args:
        wrap: Function that wraps a given model, e.g. `lambda model: kr.models.SAM(model, rho=0.1)`; give
            methods that draw random numbers a seed.
        neutral: The same at the strength at which the method does nothing (`rho=0`), if there is one.
        network: Function that builds the model to wrap; default: a classifier of four features into three
            classes with batch normalization, an L2 penalty and (in `neutral`) dropout.
        x: Inputs; default: eight samples in `[0, 1]`.
        y: Labels, or a dictionary of `label` and further columns; default: class ids.
        loss: Loss to compile with; default: cross-entropy on logits. `False` for none.
        skip: Names of checks that do not apply.

    Returns:
        What became of each check: "passed", "skipped", or "not applicable: " and why.

    Raises:
        AssertionError: If a check fails; names the check, and expected and received values.
        ValueError: If `skip` names no check.

    Cost: about twenty steps of a tiny model and one compilation; a few seconds.

    Example:

    ```python
    import keras_regularize as kr

    kr.testing.check_model(
        lambda model: kr.models.SAM(model, rho=0.1),
        skip=("fit", "batch norm", "saving", "weights", "jit", "mixed precision"),
    )
    ```
    """
    case = _case(wrap, neutral, network, x, y, loss)
    return run_checks("check_model", wrap, CHECKS, case, skip)


def _case(wrap, neutral=None, network=None, x=None, y=None, loss=None):
    rng = np.random.default_rng(0)
    case = SimpleNamespace(wrap=wrap, neutral=neutral, network=network or _network)
    case.default = all(given is None for given in (network, x, y, loss))
    case.x = rng.uniform(0.1, 0.9, (8, 4)).astype("float32") if x is None else x
    case.y = rng.integers(0, 3, 8).astype("int32") if y is None else y
    case.loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if loss is not None:
        case.loss = loss or None
    return case


def _network(dropout=0.0):
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(
                5, activation="tanh", kernel_regularizer=keras.regularizers.L2(0.01)
            ),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(dropout),
            keras.layers.Dense(3),
        ]
    )


def _build(case, wrap=None, compile=True, **options):
    """`(wrapped model, wrapper)` with weights that repeat, to run eagerly unless told."""
    keras.utils.set_random_seed(7)
    model = case.network()
    wrapper = (wrap or case.wrap)(model)
    if compile:
        wrapper.compile(
            keras.optimizers.SGD(0.1, momentum=0.9), case.loss, **(options or {"run_eagerly": True})
        )
    return model, wrapper


def _train(case, wrapper, steps):
    """Logs of some steps on the whole batch."""
    y = case.y if isinstance(wrapper, RegularizedModel) else _label(case)
    losses = []
    for _ in range(steps):
        wrapper.reset_metrics()  # Before Keras 3.15 the loss is the mean since then.
        # Before what else a wrapper logs.
        losses.append(float(np.ravel(to_numpy(wrapper.train_on_batch(case.x, y)))[0]))
    return losses


def _label(case):
    """The label alone: only the wrappers of this package know of further columns."""
    return case.y["label"] if isinstance(case.y, dict) and "label" in case.y else case.y


def _assert_same_weights(got, expected, what, rtol=1e-5, atol=1e-6):
    if len(got.weights) != len(expected.weights):
        raise AssertionError(
            f"{what}: expected {len(expected.weights)} weights, got {len(got.weights)}"
        )
    for one, other in zip(got.weights, expected.weights):
        assert_close(one, other, f"{what}, `{other.path}`", rtol, atol)


def _construction(case):
    for wrong in (keras.layers.Dense(2), "model", None):
        try:
            case.wrap(wrong)
        except ValueError:
            continue
        raise AssertionError(
            f"expected a ValueError for {wrong!r} in the place of a model, got none"
        )


def _config(case):
    _, wrapper = _build(case, compile=False)
    assert_config_round_trip(wrapper)


def _fit(case):
    keras.utils.set_random_seed(7)
    model = case.network()
    frozen = next((layer for layer in model.layers if layer.trainable_variables), None)
    learning = sum(bool(layer.trainable_variables) for layer in model.layers) > 1
    if frozen is not None and learning:
        frozen.trainable = False
    wrapper = case.wrap(model)
    wrapper.compile(keras.optimizers.SGD(0.1), case.loss, run_eagerly=True)
    before = [to_numpy(v) for v in model.weights]
    history = wrapper.fit(
        case.x, case.y, batch_size=len(case.x), epochs=2, verbose=0, shuffle=False
    )
    for name, values in history.history.items():
        assert_finite(np.array(values), f"`{name}` in the history")
    after = [to_numpy(v) for v in model.weights]
    assert_finite(after, "weights after fit")
    held = {id(v) for v in wrapper.variables}
    if not all(id(v) in held for v in model.variables):
        raise AssertionError("expected the wrapper to hold the wrapped model's own variables")
    if all(np.array_equal(a, b) for a, b in zip(before, after)):
        raise AssertionError("expected the wrapped model's weights to change in fit, they did not")
    if frozen is not None and learning:
        for variable, value in zip(model.weights, before):
            if any(variable is v for v in frozen.weights):
                assert_close(variable, value, f"frozen `{variable.path}` after fit", 0, 0)


def _neutral(case):
    if case.neutral is None:
        return "no neutral strength is given"
    losses, model = _three_steps(case, case.neutral)
    plain_losses, plain = (
        _plain_steps() if case.default else _three_steps(case, lambda model: model)
    )
    assert_close(losses, plain_losses, "losses of three steps against plain fit")
    _assert_same_weights(model, plain, "after three steps against plain fit")


def _three_steps(case, wrap):
    keras.utils.set_random_seed(7)
    model = _network(dropout=0.3) if case.default else case.network()
    wrapper = wrap(model)
    wrapper.compile(keras.optimizers.SGD(0.1, momentum=0.9), case.loss, run_eagerly=True)
    return np.array(_train(case, wrapper, 3)), model


@functools.cache
def _plain_steps():
    return _three_steps(_case(None), lambda model: model)


def _trained(case):
    """`(wrapped model, wrapper, loss)` after one step, shared by the checks that do not train on."""
    if not hasattr(case, "trained"):
        model, wrapper = _build(case)
        case.trained = model, wrapper, _train(case, wrapper, 1)[0]
    return case.trained


def _inference(case):
    model, wrapper, _ = _trained(case)
    predicted = to_numpy(model(case.x, training=False))
    assert_close(wrapper.predict_on_batch(case.x), predicted, "predict", atol=1e-6)
    wrapper.reset_metrics()
    got = wrapper.test_on_batch(case.x, case.y)
    model.compile("sgd", case.loss, run_eagerly=True)
    assert_close(got, model.test_on_batch(case.x, _label(case)), "evaluate", atol=1e-6)


def _batch_norm(case):
    model, _, _ = _trained(case)
    plain, _ = _build(case, wrap=lambda model: model, compile=False)
    plain(case.x, training=True)
    pairs = [
        (got, expected)
        for got, expected in zip(model.non_trainable_variables, plain.non_trainable_variables)
        if keras.backend.is_float_dtype(keras.backend.standardize_dtype(got.dtype))
    ]
    for got, expected in pairs:
        assert_close(got, expected, f"`{expected.path}` after one step against one plain pass")
    return None if pairs else "the model keeps no statistics"


def _weights(case):
    _, wrapper, _ = _trained(case)
    _, fresh = _build(case, compile=False)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.weights.h5")
        wrapper.save_weights(path)
        fresh.load_weights(path)
    _assert_same_weights(fresh, wrapper, "after load_weights into a fresh wrapper", 0, 0)


def _saving(case):
    _, wrapper, _ = _trained(case)
    restored = save_and_load(wrapper)
    _assert_same_weights(restored, wrapper, "after loading", 0, 0)
    got = restored.predict_on_batch(case.x)
    assert_close(got, wrapper.predict_on_batch(case.x), "predict after loading")
    # Keras saves no state of random streams.
    saved = {id(v) for v in wrapper.weights}
    for variable, other in zip(wrapper.non_trainable_variables, restored.non_trainable_variables):
        if id(variable) not in saved:
            other.assign(to_numpy(variable))
    loss, again = _train(case, wrapper, 1)[0], _train(case, restored, 1)[0]
    del case.trained  # Trained further.
    assert_close(np.array(again), np.array(loss), "loss of the next step after loading")
    _assert_same_weights(restored, wrapper, "after the next step after loading")


def _jit(case):
    if reason := why_not_compiled():
        return reason
    model, wrapper = _build(case, **compiled())
    eager_model, _, eager_loss = _trained(case)
    loss = _train(case, wrapper, 1)[0]
    assert_close(np.array(loss), np.array(eager_loss), "loss of a compiled against an eager step")
    _assert_same_weights(model, eager_model, "after a compiled against an eager step", 1e-4, 1e-5)


def _mixed_precision(case):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model, wrapper = _build(case)
        losses = _train(case, wrapper, 2)
    finally:
        keras.config.set_dtype_policy(policy)
    assert_finite(np.array(losses), "losses under mixed_float16")
    assert_finite([to_numpy(v) for v in model.weights], "weights under mixed_float16")


CHECKS = {
    "construction": _construction,
    "config": _config,
    "fit": _fit,
    "neutral": _neutral,
    "inference": _inference,
    "batch norm": _batch_norm,
    "weights": _weights,
    "jit": _jit,
    "saving": _saving,
    "mixed precision": _mixed_precision,
}
