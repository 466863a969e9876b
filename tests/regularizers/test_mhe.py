"""MHE against a loop over pairs in float64, and the extrema and symmetries of the energy."""

import json
import math

import keras
import numpy as np
import pytest
from keras import ops

from keras_regularize import autodiff
from keras_regularize.regularizers import MHE, mhe
from tests.helpers import number, tensor

SETTINGS = [
    {"power": power, "angular": angular, "half_space": half_space}
    for power in (0, 1, 2)
    for angular in (False, True)
    for half_space in (False, True)
]


def oracle(w, power=0, angular=False, half_space=False, epsilon=1e-4):
    filters = list(np.asarray(w, "float64").reshape(-1, np.shape(w)[-1]).T)
    if half_space:
        filters += [-f for f in filters]
    energies = []
    for i in range(len(filters)):
        for j in range(i + 1, len(filters)):
            lengths = [math.sqrt(filters[k] @ filters[k] + epsilon) for k in (i, j)]
            cosine = filters[i] @ filters[j] / (lengths[0] * lengths[1])
            if angular:
                z = math.acos(min(1 - 1e-7, max(-1 + 1e-7, cosine))) / math.pi + 1e-4
                energies.append([-math.log(z), 1 / z, 1 / z**2][power])
            else:
                z = max(2 - 2 * cosine, 1e-7)
                energies.append([-math.log(z), 1 / math.sqrt(z), 1 / z][power])
    return float(np.mean(energies))


def slopes(fn, w, h=1e-6):
    grad = np.zeros_like(w)
    for index in np.ndindex(*w.shape):
        step = np.zeros_like(w)
        step[index] = h
        grad[index] = (fn(w + step) - fn(w - step)) / (2 * h)
    return grad


@pytest.mark.parametrize("shape", [(3, 4), (2, 2, 3, 5)])
@pytest.mark.parametrize("settings", SETTINGS)
def test_value_and_gradient_equal_a_loop_over_pairs(shape, settings):
    w = np.random.default_rng(0).normal(size=shape)
    value, grad = autodiff.value_and_grad(MHE(0.7, **settings))(tensor(w))
    assert value.shape == ()
    np.testing.assert_allclose(
        ops.convert_to_numpy(value), 0.7 * oracle(w, **settings), rtol=1e-4, atol=1e-5
    )
    expected = 0.7 * slopes(lambda v: oracle(v, **settings), w)
    np.testing.assert_allclose(ops.convert_to_numpy(grad), expected, rtol=2e-3, atol=1e-4)


def test_epsilon_is_that_of_the_formula():
    w = np.random.default_rng(1).normal(size=(3, 4))
    value = MHE(epsilon=0.5)(tensor(w))
    np.testing.assert_allclose(float(value), oracle(w, epsilon=0.5), rtol=1e-5)


def test_accepts_a_variable_and_a_vector():
    w = np.random.default_rng(1).normal(size=(4, 3)).astype("float32")
    value = ops.convert_to_numpy(MHE()(keras.Variable(w)))
    assert value == ops.convert_to_numpy(MHE()(tensor(w)))
    np.testing.assert_allclose(number(MHE()(tensor(w[0]))), oracle(w[:1]), rtol=1e-4)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_simplex_is_the_minimum(count):
    centred = np.eye(count) - 1 / count  # n filters on n - 1 dimensions.
    value = number(MHE(power=2)(tensor(100 * centred)))
    np.testing.assert_allclose(value, (count - 1) / (2 * count), rtol=1e-4)
    rng = np.random.default_rng(2)
    for _ in range(5):
        assert number(MHE(power=2)(tensor(rng.normal(size=(count, count)) * 100))) > value


def test_orthogonal_filters():
    np.testing.assert_allclose(
        number(MHE(power=1)(tensor(100 * np.eye(4)))), 1 / math.sqrt(2), rtol=1e-5
    )


def test_scale_and_rotation_change_nothing():
    rng = np.random.default_rng(3)
    w = 30 * rng.normal(size=(6, 4))
    q, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    for settings in ({"power": 0}, {"power": 2, "angular": True}):
        value = number(MHE(**settings)(tensor(w)))
        for other in (q @ w, 7 * w, w * [1, 2, 3, 4], w[:, ::-1]):
            np.testing.assert_allclose(number(MHE(**settings)(tensor(other))), value, rtol=1e-4)


def test_half_space_is_blind_to_signs():
    w = 10 * np.random.default_rng(4).normal(size=(5, 4))
    flipped = w * [1, -1, -1, 1]
    half, full = MHE(power=1, half_space=True), MHE(power=1)
    np.testing.assert_allclose(number(half(tensor(flipped))), number(half(tensor(w))), rtol=1e-5)
    assert abs(number(full(tensor(flipped))) - number(full(tensor(w)))) > 1e-3


def test_descent_lowers_the_energy_and_the_cosines():
    def largest_cosine(w):
        units = w / np.linalg.norm(w, axis=0)
        return np.abs(units.T @ units - np.eye(w.shape[1])).max()

    w = np.random.default_rng(5).normal(size=(4, 4)).astype("float32") + 1.0
    regularizer = MHE(power=1, half_space=True)
    value_and_grad = autodiff.value_and_grad(regularizer)
    values, start = [], largest_cosine(w)
    for _ in range(100):
        value, grad = value_and_grad(tensor(w))
        values.append(number(value))
        w = w - 0.5 * ops.convert_to_numpy(grad)
    assert values[-1] < values[0] - 0.05 and largest_cosine(w) < start / 2


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize(
    "w",
    [
        np.zeros((3, 4)),
        np.ones((3, 4)),
        1e4 * np.ones((3, 4)),  # Duplicates of large norm: the cosine rounds to one.
        1e4 * np.array([[1.0, -1.0, 1e-9, 0.0]] * 3),
        np.full((3, 4), 1e-20),
    ],
)
def test_degenerate_filters_are_finite(settings, w):
    value, grad = autodiff.value_and_grad(MHE(**settings))(tensor(w))
    assert np.isfinite(number(value))
    assert np.isfinite(ops.convert_to_numpy(grad)).all()


def test_fewer_than_two_filters_have_no_energy():
    w = np.random.default_rng(6).normal(size=(4, 1))
    value, grad = autodiff.value_and_grad(MHE())(tensor(w))
    assert number(value) == 0.0
    np.testing.assert_array_equal(ops.convert_to_numpy(grad), np.zeros((4, 1)))
    # A filter and its negative are two.
    np.testing.assert_allclose(
        number(MHE(half_space=True)(tensor(w))), oracle(w, half_space=True), rtol=1e-4
    )


def test_factor_zero_is_zero():
    assert number(MHE(0.0)(tensor(np.random.default_rng(7).normal(size=(4, 3))))) == 0.0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(dtype):
    w = np.random.default_rng(8).normal(size=(6, 4))
    w[:, 1] = w[:, 0]
    value, grad = autodiff.value_and_grad(MHE(power=2))(tensor(300 * w, dtype))
    assert np.isfinite(number(value))
    assert np.isfinite(ops.convert_to_numpy(ops.cast(grad, "float32"))).all()


@pytest.mark.parametrize("pairs", [2**10, 2**8, 1])
@pytest.mark.parametrize("settings", [{}, {"power": 1, "angular": True, "half_space": True}])
def test_blocks_of_rows_change_nothing(monkeypatch, pairs, settings):
    w = tensor(np.random.default_rng(9).normal(size=(5, 37)))
    whole = autodiff.value_and_grad(MHE(**settings))(w)
    monkeypatch.setattr(mhe, "_PAIRS_AT_ONCE", pairs)  # 27, 6 and 1 rows at a time.
    blocked = autodiff.value_and_grad(MHE(**settings))(w)
    for expected, value in zip(whole, blocked):
        np.testing.assert_allclose(
            ops.convert_to_numpy(ops.stop_gradient(value)),
            ops.convert_to_numpy(ops.stop_gradient(expected)),
            rtol=1e-5,
            atol=1e-7,
        )


def test_blocks_of_rows_train(monkeypatch):
    monkeypatch.setattr(mhe, "_PAIRS_AT_ONCE", 16)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(7, kernel_regularizer=MHE())])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    before = sum(number(loss) for loss in model.losses)
    model.fit(np.zeros((8, 3)), np.zeros((8, 7)), epochs=20, verbose=0)
    assert sum(number(loss) for loss in model.losses) < before


def test_projected_energy_is_that_of_the_projected_filters():
    w = np.random.default_rng(10).normal(size=(3, 20, 6))
    regularizer = MHE(power=1, projection_dim=8, projections=3, seed=5)
    expected = []
    for k in range(3):
        matrix = np.random.default_rng([5, k]).standard_normal((60, 8)) / math.sqrt(8)
        expected.append(oracle(matrix.T @ w.reshape(60, 6), power=1))
    value = number(regularizer(tensor(w)))
    np.testing.assert_allclose(value, np.mean(expected), rtol=1e-4)
    assert value == number(regularizer(tensor(w)))
    assert value != number(MHE(power=1, projection_dim=8, projections=3, seed=6)(tensor(w)))
    # Random projections keep angles roughly, so the energies are close.
    np.testing.assert_allclose(value, oracle(w, power=1), rtol=0.3)


def test_config_round_trip():
    config = {
        "factor": 0.5,
        "power": 2,
        "angular": True,
        "half_space": True,
        "epsilon": 1e-3,
        "projection_dim": 4,
        "projections": 2,
        "seed": 3,
    }
    regularizer = MHE(**config)
    assert regularizer.get_config() == config
    data = json.loads(json.dumps(keras.saving.serialize_keras_object(regularizer)))
    assert data["registered_name"] == "keras_regularize.regularizers>MHE"
    assert keras.saving.deserialize_keras_object(data).get_config() == config


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"factor": -1}, "`factor` must be a number at least 0"),
        ({"power": 3}, "`power` must be one of 0, 1, 2"),
        ({"epsilon": 0}, "`epsilon` must be a number above 0"),
        ({"projection_dim": 0}, "`projection_dim` must be an integer of at least 1"),
        ({"projections": 0}, "`projections` must be an integer of at least 1"),
        ({"seed": 0.5}, "`seed` must be an integer"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        MHE(**arguments)
