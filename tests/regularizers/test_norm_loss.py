"""NormLoss against a loop over filters, and what the paper claims for it."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_regularize import autodiff
from keras_regularize.regularizers import NormLoss
from tests.helpers import number, tensor


def oracle(w, factor, axis):
    w = np.asarray(w, "float64")
    axes = [] if axis is None else [axis] if isinstance(axis, int) else list(axis)
    axes = [a % w.ndim for a in axes]
    total = 0.0
    for index in np.ndindex(*[w.shape[a] for a in axes]):
        where = [slice(None)] * w.ndim
        for a, i in zip(axes, index):
            where[a] = i
        total += (1.0 - np.sqrt((w[tuple(where)] ** 2).sum())) ** 2
    return factor * total


def slopes(fn, w, h=1e-6):
    grad = np.zeros_like(w)
    for index in np.ndindex(*w.shape):
        step = np.zeros_like(w)
        step[index] = h
        grad[index] = (fn(w + step) - fn(w - step)) / (2 * h)
    return grad


@pytest.mark.parametrize(
    "shape, axis",
    [
        ((4, 3), -1),
        ((4, 3), 0),
        ((3, 3, 2, 5), -1),
        ((3, 3, 4, 2), (-2, -1)),
        ((3, 3, 4, 2), (2, 0)),
        ((6, 2), None),
        ((5,), -1),
        ((1, 4), -1),
        ((4, 1), -1),
    ],
)
@pytest.mark.parametrize("factor", [0.01, 2.0])
def test_value_and_gradient_equal_a_loop_over_filters(shape, axis, factor):
    w = np.random.default_rng(0).normal(size=shape)
    value, grad = autodiff.value_and_grad(NormLoss(factor, axis))(tensor(w))
    assert value.shape == ()
    np.testing.assert_allclose(ops.convert_to_numpy(value), oracle(w, factor, axis), rtol=1e-5)
    expected = slopes(lambda v: oracle(v, factor, axis), w)
    np.testing.assert_allclose(ops.convert_to_numpy(grad), expected, rtol=1e-3, atol=1e-4 * factor)


def test_accepts_a_variable():
    w = np.random.default_rng(1).normal(size=(4, 3)).astype("float32")
    value = ops.convert_to_numpy(NormLoss()(keras.Variable(w)))
    assert value == ops.convert_to_numpy(NormLoss()(tensor(w)))


def test_unit_filters_cost_nothing_and_rotations_change_nothing():
    rng = np.random.default_rng(2)
    q, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    assert abs(number(NormLoss(1.0)(tensor(q)))) < 1e-11
    w = rng.normal(size=(6, 4))
    np.testing.assert_allclose(
        number(NormLoss(1.0)(tensor(q @ w))), number(NormLoss(1.0)(tensor(w))), rtol=1e-5
    )


def test_long_filters_shrink_and_short_ones_grow():
    w = tensor([[3.0, 0.1], [0.0, 0.0]])
    grad = ops.convert_to_numpy(autodiff.grad(NormLoss(1.0))(w))
    assert grad[0, 0] > 0 > grad[0, 1]


def test_zero_filters_cost_the_factor_and_get_no_gradient():
    value, grad = autodiff.value_and_grad(NormLoss(0.5))(tensor(np.zeros((4, 3))))
    assert number(value) == 1.5
    np.testing.assert_array_equal(ops.convert_to_numpy(grad), np.zeros((4, 3)))


def test_factor_zero_is_zero():
    assert number(NormLoss(0.0)(tensor(np.full((3, 2), 7.0)))) == 0.0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_neither_overflows_nor_loses_the_sum(dtype):
    w = tensor(np.full((64, 2), 100.0), dtype)  # The sum of squares is beyond float16.
    value, grad = autodiff.value_and_grad(NormLoss(1.0))(w)
    np.testing.assert_allclose(number(value), 2 * (1 - 800.0) ** 2, rtol=1e-2)
    assert np.isfinite(ops.convert_to_numpy(ops.cast(grad, "float32"))).all()


def test_extreme_weights_are_finite():
    value, grad = autodiff.value_and_grad(NormLoss(1.0))(tensor([[1e4, 1e-30], [-1e4, 0.0]]))
    assert np.isfinite(number(value)) and np.isfinite(ops.convert_to_numpy(grad)).all()


@pytest.mark.parametrize("axis", [-1, None, (-2, -1)])
def test_config_round_trip(axis):
    regularizer = NormLoss(np.float32(0.25), axis)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(regularizer)))
    assert config["registered_name"] == "keras_regularize.regularizers>NormLoss"
    restored = keras.saving.deserialize_keras_object(config)
    assert restored.factor == 0.25 and restored.axis == axis


def test_trained_filters_gather_at_norm_one():
    x = np.random.default_rng(3).normal(size=(64, 5)).astype("float32")
    y = x @ np.random.default_rng(4).normal(size=(5, 3)).astype("float32") * 3
    model = keras.Sequential(
        [keras.Input((5,)), keras.layers.Dense(3, kernel_regularizer=NormLoss(100.0))]
    )
    model.compile(keras.optimizers.SGD(1e-3), "mse")
    model.fit(x, y, epochs=60, batch_size=16, verbose=0)
    norms = np.linalg.norm(model.get_weights()[0], axis=0)
    np.testing.assert_allclose(norms, 1.0, atol=0.05)


@pytest.mark.parametrize("factor", [-0.1, "a", None, float("nan")])
def test_bad_factor(factor):
    with pytest.raises(ValueError, match="`factor` must be a number at least 0"):
        NormLoss(factor)


@pytest.mark.parametrize("axis", [1.5, "last", (0, 0)])
def test_bad_axis(axis):
    with pytest.raises(ValueError, match="`axis` must be an integer"):
        NormLoss(axis=axis)


def test_axis_outside_the_weight():
    with pytest.raises(ValueError, match="`axis` must name axes of the weight"):
        NormLoss(axis=(-2, -1))(tensor(np.ones(3)))
