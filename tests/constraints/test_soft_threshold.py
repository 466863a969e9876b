"""SoftThreshold: the proximal map, entry by entry and by its properties."""

import json

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_regularize.constraints import GroupSoftThreshold, HardThreshold, SoftThreshold
from tests.helpers import tensor

numbers = st.floats(-10, 10, width=32, allow_subnormal=False)  # JAX flushes subnormals to 0.


def apply(threshold, w):
    return ops.convert_to_numpy(SoftThreshold(threshold)(tensor(w)))


@pytest.mark.parametrize("shape", [(4, 3), (2, 2, 3, 2), (5,), ()])
@pytest.mark.parametrize("threshold", [0.1, 1.0])
def test_equals_a_loop_over_entries(shape, threshold):
    w = np.asarray(np.random.default_rng(0).normal(size=shape), "float32")
    expected = np.zeros(shape)
    for index in np.ndindex(*shape):
        size = abs(float(w[index])) - threshold
        expected[index] = np.sign(w[index]) * size if size > 0 else 0.0
    np.testing.assert_allclose(apply(threshold, w), expected, rtol=1e-6, atol=1e-7)


@settings(max_examples=50)
@given(st.lists(numbers, min_size=6, max_size=6), st.floats(0, 5, width=32, allow_subnormal=False))
def test_zeros_are_exact_and_no_distance_grows(values, threshold):
    w = np.asarray(values, "float32")
    shrunk = apply(threshold, w)
    assert ((shrunk == 0) == (np.abs(w) <= np.float32(threshold))).all()
    assert (np.abs(shrunk) <= np.abs(w)).all()
    assert (shrunk * w >= 0).all()
    gaps = np.abs(shrunk[:, None] - shrunk[None, :])
    assert (gaps <= np.abs(w[:, None] - w[None, :]) + 1e-5).all()


def test_it_is_the_minimizer_that_defines_a_proximal_map():
    for w in (-2.0, -0.3, 0.0, 0.4, 1.5):
        grid = np.linspace(-3, 3, 60001)
        best = grid[np.argmin(0.5 * (grid - w) ** 2 + 0.5 * np.abs(grid))]
        np.testing.assert_allclose(apply(0.5, [w])[0], best, atol=1e-4)


def test_threshold_zero_changes_nothing():
    w = np.random.default_rng(1).normal(size=(3, 4)).astype("float32")
    np.testing.assert_array_equal(apply(0.0, w), w)


def test_zero_weights_and_extremes():
    np.testing.assert_array_equal(apply(0.5, np.zeros((2, 2))), np.zeros((2, 2)))
    np.testing.assert_allclose(apply(0.5, [1e30, -1e30]), [1e30, -1e30])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_dtype_is_kept(dtype):
    shrunk = SoftThreshold(0.5)(tensor([0.25, -1.5, 6e4], dtype))
    assert keras.backend.standardize_dtype(shrunk.dtype) == dtype
    values = ops.convert_to_numpy(ops.cast(shrunk, "float32"))
    np.testing.assert_allclose(values[:2], [0.0, -1.0])
    assert np.isfinite(values).all()


def test_accepts_a_variable():
    w = keras.Variable(np.array([0.2, -1.5], "float32"))
    values = ops.convert_to_numpy(ops.stop_gradient(SoftThreshold(0.5)(w)))
    np.testing.assert_allclose(values, [0.0, -1.0])


def test_training_makes_exact_zeros_and_saves(tmp_path):
    x = np.random.default_rng(2).normal(size=(64, 8)).astype("float32")
    y = x[:, :1] * 2
    layer = keras.layers.Dense(1, kernel_constraint=SoftThreshold(0.02))
    model = keras.Sequential([keras.Input((8,)), layer])
    model.compile(keras.optimizers.SGD(0.05), "mse")
    model.fit(x, y, epochs=20, batch_size=16, verbose=0)
    kernel = model.get_weights()[0][:, 0]
    assert (kernel[1:] == 0).sum() >= 5 and kernel[0] > 1
    model.save(tmp_path / "model.keras")
    constraint = keras.models.load_model(tmp_path / "model.keras").layers[0].kernel_constraint
    assert isinstance(constraint, SoftThreshold) and constraint.threshold == 0.02


def test_config_is_plain():
    constraint = SoftThreshold(np.float32(0.5))
    data = json.loads(json.dumps(keras.saving.serialize_keras_object(constraint)))
    assert data["registered_name"] == "keras_regularize.constraints>SoftThreshold"
    assert keras.saving.deserialize_keras_object(data).threshold == 0.5


@pytest.mark.parametrize("threshold", [-0.5, "a", None])
def test_bad_threshold(threshold):
    for kind in (SoftThreshold, GroupSoftThreshold, HardThreshold):
        with pytest.raises(ValueError, match="`threshold` must be a number at least 0"):
            kind(threshold)


@pytest.mark.parametrize(
    "shape, axis", [((4, 3), -1), ((2, 3, 2, 4), -1), ((3, 3, 2, 2), (-2, -1))]
)
def test_group_map_equals_a_loop_over_groups(shape, axis):
    w = np.random.default_rng(3).normal(size=shape)
    w[..., 0] *= 0.1
    axes = [a % len(shape) for a in ([axis] if isinstance(axis, int) else axis)]
    expected = np.zeros(shape)
    for index in np.ndindex(*[shape[a] for a in axes]):
        where = [slice(None)] * len(shape)
        for a, i in zip(axes, index):
            where[a] = i
        group = w[tuple(where)]
        expected[tuple(where)] = group * max(1 - 1.2 / np.sqrt((group**2).sum()), 0)
    shrunk = ops.convert_to_numpy(GroupSoftThreshold(1.2, axis)(tensor(w)))
    np.testing.assert_allclose(shrunk, expected, rtol=1e-5, atol=1e-6)
    assert (shrunk == 0).any()


def test_group_map_at_zero():
    shrunk = ops.convert_to_numpy(GroupSoftThreshold(0.0)(tensor(np.zeros((3, 2)))))
    np.testing.assert_array_equal(shrunk, np.zeros((3, 2)))


def test_hard_map():
    w = tensor([-1.5, -0.5, 0.0, 0.4, 0.5, 0.6])
    kept = ops.convert_to_numpy(HardThreshold(0.5)(w))
    np.testing.assert_array_equal(kept, np.array([-1.5, 0, 0, 0, 0, 0.6], "float32"))
