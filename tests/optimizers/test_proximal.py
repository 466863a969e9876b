"""Proximal: the steps, the solutions they lead to, and the mechanics of an optimizer that wraps another."""

import json

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_regularize.optimizers import Proximal

SGD, Adam = keras.optimizers.SGD, keras.optimizers.Adam


def tensor(x):
    return ops.convert_to_tensor(np.asarray(x, "float32"))


def number(x):
    return float(ops.convert_to_numpy(ops.convert_to_tensor(x)))


def values(variables):
    return [ops.convert_to_numpy(ops.stop_gradient(v.value)) for v in variables]


def shrink(w, t, penalty):
    if penalty == "l1":
        return np.sign(w) * np.maximum(np.abs(w) - t, 0)
    if penalty == "l0":
        return np.where(np.abs(w) > t, w, 0)
    out = np.zeros_like(w)
    for f in range(w.shape[-1]):
        norm = np.sqrt((w[..., f] ** 2).sum())
        out[..., f] = w[..., f] * max(1 - t / norm, 0)
    return out


def start():
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=s).astype("float32") for s in [(3, 2), (2,), (2, 2, 2, 3)]]
    steps = [[rng.normal(size=a.shape).astype("float32") for a in arrays] for _ in range(4)]
    return arrays, steps


def regression(features=8, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(64, features)).astype("float32")
    truth = np.zeros((features, 1), "float32")
    truth[:2] = [[2.0], [-1.0]]
    return x, x @ truth + 0.1 * rng.normal(size=(64, 1)).astype("float32")


def linear(features=8):
    return keras.Sequential([keras.Input((features,)), layers.Dense(1, use_bias=False)])


@pytest.mark.parametrize("penalty", ["l1", "group_l1", "l0"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_steps_equal_a_loop(penalty, momentum):
    arrays, steps = start()
    optimizer = Proximal(SGD(0.1, momentum=momentum), 3.0, penalty)
    variables = [keras.Variable(a) for a in arrays]
    expected = [a.astype("float64") for a in arrays]
    moments = [np.zeros_like(a) for a in expected]
    for grads in steps:
        optimizer.apply([tensor(g) for g in grads], variables)
        for i, grad in enumerate(grads):
            moments[i] = momentum * moments[i] - 0.1 * grad
            expected[i] = expected[i] + moments[i]
            if expected[i].ndim >= 2:  # Biases are left alone.
                expected[i] = shrink(expected[i], 0.1 * 3.0, penalty)
    for value, reference in zip(values(variables), expected):
        np.testing.assert_allclose(value, reference, rtol=1e-4, atol=1e-5)
    assert any((value == 0).any() for value in values(variables))
    assert number(optimizer.iterations) == 4


def test_adam_uses_the_scalar_rate():
    arrays, steps = start()
    plain, wrapped = Adam(0.01), Proximal(Adam(0.01), 5.0)
    a, b = [keras.Variable(x) for x in arrays], [keras.Variable(x) for x in arrays]
    plain.apply([tensor(g) for g in steps[0]], a)
    wrapped.apply([tensor(g) for g in steps[0]], b)
    np.testing.assert_allclose(values(b)[0], shrink(values(a)[0], 0.05, "l1"), atol=1e-6)
    np.testing.assert_array_equal(values(b)[1], values(a)[1])


@pytest.mark.parametrize("penalty", ["l1", "group_l1", "l0"])
def test_factor_zero_is_the_wrapped_optimizer(penalty):
    arrays, steps = start()
    plain, wrapped = Adam(0.01), Proximal(Adam(0.01), 0.0, penalty)
    a, b = [keras.Variable(x) for x in arrays], [keras.Variable(x) for x in arrays]
    for grads in steps:
        plain.apply([tensor(g) for g in grads], a)
        wrapped.apply([tensor(g) for g in grads], b)
    for left, right in zip(values(a), values(b)):
        np.testing.assert_array_equal(left, right)


def test_the_absolute_value_reaches_zero_and_its_subgradient_does_not():
    # f(w) = factor |w| from 1, steps of 0.3.
    variable = keras.Variable([[1.0]])
    optimizer = Proximal(SGD(0.3), factor=1.0)
    for _ in range(4):
        optimizer.apply([tensor([[0.0]])], [variable])
    assert values([variable])[0] == 0.0

    variable, optimizer, seen = keras.Variable([[1.0]]), SGD(0.3), []
    for _ in range(50):
        optimizer.apply([ops.sign(ops.stop_gradient(variable.value))], [variable])
        seen.append(abs(values([variable])[0].item()))
    assert min(seen) > 0.05 and max(seen[10:]) > 0.15


def test_fixed_points_are_the_lasso_solution():
    x, y = regression()
    factor = 0.5
    model = linear()
    model.compile(Proximal(SGD(0.1), factor), "mse")
    model.fit(x, y, epochs=150, batch_size=64, verbose=0)
    w = model.get_weights()[0].astype("float64")
    gradient = 2 * x.T @ (x @ w - y) / len(x)
    active = w != 0
    np.testing.assert_allclose(gradient[active], -factor * np.sign(w[active]), atol=1e-3)
    assert (np.abs(gradient[~active]) <= factor + 1e-3).all()
    assert 1 <= active.sum() <= 3

    penalized = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(1, use_bias=False, kernel_regularizer=keras.regularizers.L1(factor)),
        ]
    )
    penalized.compile(SGD(0.1), "mse")
    penalized.fit(x, y, epochs=50, batch_size=64, verbose=0)
    assert (penalized.get_weights()[0] != 0).all()


def test_groups_vanish_together():
    x, _ = regression()
    y = np.concatenate([x[:, :1] * 3, 0.1 * x[:, 1:3]], axis=1)
    model = keras.Sequential([keras.Input((8,)), layers.Dense(3, use_bias=False)])
    model.compile(Proximal(SGD(0.1), 0.4, "group_l1"), "mse")
    model.fit(x, y, epochs=60, batch_size=64, verbose=0)
    kernel = model.get_weights()[0]
    assert (kernel[:, 1:] == 0).all() and (kernel[:, 0] != 0).all()


@pytest.mark.parametrize("inner", [SGD(0.05, momentum=0.9), Adam(0.02)])
def test_fit_makes_exact_zeros(inner):
    x, y = regression()
    model = keras.Sequential(
        [keras.Input((8,)), layers.Dense(6, activation="relu"), layers.Dense(1)]
    )
    model.compile(Proximal(inner, 0.3), "mse")
    history = model.fit(x, y, epochs=40, batch_size=16, verbose=0).history["loss"]
    zeros = [(w == 0).mean() for w in model.get_weights() if w.ndim > 1]
    assert zeros[0] > 0.3 and history[-1] < history[0]
    assert number(model.optimizer.iterations) == 160


def test_schedules_and_the_rate_of_the_step():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0, 1], [0.5, 0.2, 0.0])
    factors = keras.optimizers.schedules.PiecewiseConstantDecay([0, 1], [1.0, 2.0, 4.0])
    variable = keras.Variable([[3.0]])
    optimizer = Proximal(SGD(schedule), factors)
    seen = []
    for _ in range(3):
        optimizer.apply([tensor([[1.0]])], [variable])
        seen.append(values([variable])[0].item())
    # Gradient and threshold of each step use the same rate: 0.5 (1 + 1), 0.2 (1 + 2), 0.
    np.testing.assert_allclose(seen, [2.0, 1.4, 1.4], rtol=1e-6)


def test_learning_rate_is_that_of_the_wrapped_optimizer():
    optimizer = Proximal(SGD(0.1), 1.0)
    optimizer.learning_rate = 0.25
    assert number(optimizer.learning_rate) == number(optimizer.optimizer.learning_rate) == 0.25
    x, y = regression()
    model = linear()
    model.compile(optimizer, "mse")
    rates = keras.callbacks.LearningRateScheduler(lambda epoch: 0.5 / (epoch + 1))
    history = model.fit(x, y, epochs=2, verbose=0, callbacks=[rates]).history
    np.testing.assert_allclose(history["learning_rate"], [0.5, 0.25])
    np.testing.assert_allclose(number(optimizer.optimizer.learning_rate), 0.25)


def test_variables_are_own_and_inner():
    optimizer = Proximal(Adam(0.01), 1.0)
    variables = [keras.Variable(np.ones((2, 3)))]
    optimizer.build(variables)
    inner = {id(v) for v in optimizer.optimizer.variables}
    assert inner < {id(v) for v in optimizer.variables}
    assert all(id(v) != id(variables[0]) for v in optimizer.variables)


if keras.backend.backend() == "jax":  # The only backend whose optimizers are stateless.

    def test_stateless_apply_under_jit():
        import jax

        arrays, steps = start()
        reference, stateless = Proximal(Adam(0.01), 5.0), Proximal(Adam(0.01), 5.0)
        a, b = [keras.Variable(x) for x in arrays], [keras.Variable(x) for x in arrays]
        stateless.build(b)
        state, weights = [v.value for v in stateless.variables], [v.value for v in b]
        apply = jax.jit(stateless.stateless_apply)
        for grads in steps:
            reference.apply([tensor(g) for g in grads], a)
            weights, state = apply(state, [tensor(g) for g in grads], weights)
        for left, right in zip(values(a), weights):
            np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(values(b)[0], arrays[0])
        assert len(state) == len(stateless.variables)


def test_save_load_and_resume(tmp_path):
    x, y = regression()
    model = linear()
    model.compile(Proximal(SGD(0.05, momentum=0.9), 0.3), "mse")
    model.fit(x, y, epochs=2, batch_size=16, verbose=0, shuffle=False)
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(restored.optimizer, Proximal) and restored.optimizer.factor == 0.3
    for left, right in zip(values(model.optimizer.variables), values(restored.optimizer.variables)):
        np.testing.assert_array_equal(left, right)
    for each in (model, restored):
        each.fit(x, y, epochs=2, batch_size=16, verbose=0, shuffle=False)
    np.testing.assert_allclose(model.get_weights()[0], restored.get_weights()[0], rtol=1e-6)


def test_config_round_trip():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    optimizer = Proximal(SGD(schedule, loss_scale_factor=8.0), schedule, "l0", name="prox")
    data = json.loads(json.dumps(keras.saving.serialize_keras_object(optimizer)))
    assert data["registered_name"] == "keras_regularize.optimizers>Proximal"
    restored = keras.saving.deserialize_keras_object(data)
    assert restored.get_config() == optimizer.get_config()
    assert restored.name == "prox" and restored.penalty == "l0"
    assert restored.loss_scale_factor == 8.0
    np.testing.assert_allclose(number(restored.factor(10)), 0.05)


def test_optimizer_by_name():
    assert isinstance(Proximal("adam", 0.1).optimizer, Adam)


def test_fixed_loss_scale_changes_nothing():
    x, y = regression()
    results = []
    for scale in (None, 1024.0):
        model = linear()
        model.set_weights([np.linspace(-1, 1, 8).reshape(8, 1)])
        model.compile(Proximal(SGD(0.05, loss_scale_factor=scale), 0.3), "mse")
        model.fit(x, y, epochs=3, batch_size=16, verbose=0, shuffle=False)
        results.append(model.get_weights()[0])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-4, atol=1e-6)


def test_mixed_float16_scales_around_it():
    x, y = regression()
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = linear()
        model.compile(Proximal(SGD(0.05), 0.5), "mse")
    finally:
        keras.config.set_dtype_policy(policy)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert isinstance(model.optimizer.inner_optimizer, Proximal)
    model.fit(x, y, epochs=40, batch_size=16, verbose=0)
    kernel = model.get_weights()[0]
    assert np.isfinite(kernel).all() and (kernel == 0).sum() >= 4 and kernel[0] > 1
    assert number(model.optimizer.iterations) > 150


def test_constraints_act_before_the_threshold():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(1, kernel_constraint=keras.constraints.UnitNorm(axis=0))]
    )
    model.set_weights([np.array([[3.0], [0.1], [0.0], [0.0]]), np.zeros(1)])
    model.compile(Proximal(SGD(0.1), 1.0), "mse")
    model.fit(np.zeros((2, 4)), np.zeros((2, 1)), verbose=0)
    unit = np.array([3.0, 0.1, 0, 0]) / np.sqrt(9.01)
    np.testing.assert_allclose(model.get_weights()[0][:, 0], shrink(unit, 0.1, "l1"), atol=1e-5)


def test_missing_gradients():
    optimizer = Proximal(SGD(0.1), 1.0)
    variables = [keras.Variable(np.ones((2, 2))), keras.Variable(np.ones((2, 2)))]
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply([tensor(np.zeros((2, 2))), None], variables)
    np.testing.assert_allclose(values(variables)[0], 0.9)
    np.testing.assert_array_equal(values(variables)[1], 1.0)
    with pytest.raises(ValueError, match="No gradients provided"):
        optimizer.apply([None, None], variables)
    with pytest.raises(ValueError, match="Received 1 gradients and 2 variables"):
        optimizer.apply([tensor(np.zeros((2, 2)))], variables)


def test_first_call_needs_variables():
    with pytest.raises(ValueError, match="needs the variables"):
        Proximal(SGD(0.1), 1.0).apply([tensor(np.zeros((2, 2)))])


def test_half_precision_variables():
    variable = keras.Variable(np.array([[0.2, -1.5, 6e4]]), dtype="float16")
    optimizer = Proximal(SGD(0.5), 1.0)
    optimizer.apply([ops.zeros((1, 3), dtype="float16")], [variable])
    result = values([variable])[0]
    assert result.dtype == np.float16
    np.testing.assert_allclose(result[0, :2], [0.0, -1.0])
    assert np.isfinite(result).all()


def test_weight_decay_exclusion_reaches_the_wrapped_optimizer():
    optimizer = Proximal(keras.optimizers.AdamW(0.1, weight_decay=0.5), 0.0)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    variables = [keras.Variable(np.ones(2), name="bias"), keras.Variable(np.ones(2), name="gain")]
    optimizer.apply([tensor(np.zeros(2)), tensor(np.zeros(2))], variables)
    np.testing.assert_allclose(values(variables)[0], 1.0)
    np.testing.assert_allclose(values(variables)[1], 0.95, rtol=1e-6)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Proximal(SGD(0.1), -1), "`factor` must be a number at least 0 or a schedule"),
        (lambda: Proximal(SGD(0.1), 1.0, "l2"), "`penalty` must be one of 'l1', 'group_l1', 'l0'"),
        (
            lambda: Proximal(SGD(0.1, gradient_accumulation_steps=2), 1.0),
            "`gradient_accumulation_steps` must not be set",
        ),
        (lambda: Proximal(SGD(0.1, use_ema=True), 1.0), "`use_ema` must not be set"),
        (
            lambda: Proximal(keras.optimizers.LossScaleOptimizer(SGD(0.1)), 1.0),
            "goes inside the loss scaling",
        ),
        (lambda: Proximal(3.0, 1.0), "Could not interpret optimizer"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
