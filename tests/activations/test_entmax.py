import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from keras_regularize import autodiff
from keras_regularize.activations import Entmax, entmax

ALPHAS = [1.0, 1.001, 1.2, 1.5, 1.8, 2.0, 3.0]


def oracle(row, alpha):
    """Bisection on the threshold in float64, as the definition has it."""
    row = np.asarray(row, "float64")
    if alpha == 1:
        e = np.exp(row - row.max())
        return e / e.sum()
    scaled = (alpha - 1) * (row - row.max())
    low, high = -1.0, 0.0
    for _ in range(200):
        middle = (low + high) / 2
        p = np.maximum(scaled - middle, 0) ** (1 / (alpha - 1))
        low, high = (middle, high) if p.sum() >= 1 else (low, middle)
    return p / p.sum()


def jacobian(p, alpha):
    s = np.array([v ** (2 - alpha) if v > 0 else 0.0 for v in p])
    return np.diag(s) - np.outer(s, s) / s.sum()


def values(x, *args, **kwargs):
    return ops.convert_to_numpy(entmax(x, *args, **kwargs))


def pullback(x, cotangent, *args, **kwargs):
    f = autodiff.grad(
        lambda x: ops.sum(ops.convert_to_tensor(cotangent) * entmax(x, *args, **kwargs))
    )
    return ops.convert_to_numpy(f(ops.convert_to_tensor(x)))


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("shape", [(1, 2), (5, 7), (3, 100)])
def test_value_and_gradient_match_the_definition(alpha, shape):
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape).astype("float32")
    v = rng.normal(size=shape).astype("float32")
    p = np.stack([oracle(row, alpha) for row in x])
    np.testing.assert_allclose(values(x, alpha), p, rtol=2e-4, atol=2e-6)
    expected = np.stack([jacobian(a, alpha) @ b for a, b in zip(p, v)])
    np.testing.assert_allclose(pullback(x, v, alpha), expected, rtol=2e-3, atol=2e-5)


def test_alpha_defaults_to_one_and_a_half():
    x = np.array([[0.5, 0.3, 0.1, -2.0]], "float32")
    np.testing.assert_array_equal(values(x), values(x, 1.5))
    np.testing.assert_allclose(values(x)[0], [0.4509762, 0.3266667, 0.2223571, 0.0], atol=1e-6)


def test_sparsemax_is_the_projection_on_the_simplex():
    np.testing.assert_allclose(
        values(np.array([[0.5, 0.3, 0.1]], "float32"), 2.0), [[8 / 15, 1 / 3, 2 / 15]], rtol=1e-6
    )


def test_two_classes_of_sparsemax_are_the_hard_sigmoid():
    d = np.linspace(-2, 2, 41).astype("float32")
    x = np.stack([d, np.zeros_like(d)], axis=-1)
    np.testing.assert_allclose(values(x, 2.0)[:, 0], np.clip((d + 1) / 2, 0, 1), atol=1e-6)


def test_softmax_is_the_limit():
    x = np.random.default_rng(0).normal(size=(4, 9)).astype("float32")
    expected = ops.convert_to_numpy(ops.softmax(x))
    np.testing.assert_allclose(values(x, 1.0), expected, rtol=1e-5)
    np.testing.assert_allclose(values(x, 1.0001), expected, rtol=3e-3)


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
@pytest.mark.parametrize("alpha", [1.0, 1.3, 1.5, 2.0])
def test_any_axis(axis, alpha):
    x = np.random.default_rng(0).normal(size=(3, 4, 5)).astype("float32")
    p = values(x, alpha, axis=axis)
    np.testing.assert_allclose(p.sum(axis), 1.0, rtol=1e-5)
    moved = np.moveaxis(values(np.moveaxis(x, axis, -1), alpha), -1, axis)
    np.testing.assert_allclose(p, moved, atol=1e-6)


def test_a_vector_is_one_distribution():
    x = np.array([1.0, 0.2, -3.0], "float32")
    np.testing.assert_allclose(values(x), oracle(x, 1.5), atol=1e-6)


@given(
    st.lists(st.floats(-50, 50, width=32), min_size=6, max_size=6),
    st.sampled_from(ALPHAS),
    st.floats(-100, 100, width=32),
)
@settings(max_examples=25)
def test_invariants(row, alpha, shift):
    x = np.array([row], "float32")
    p = values(x, alpha)
    assert np.all(p >= 0)
    np.testing.assert_allclose(p.sum(), 1.0, rtol=1e-5)
    # Rounding of x + shift is what the tolerance is for.
    np.testing.assert_allclose(values(x + np.float32(shift), alpha), p, atol=1e-3)
    np.testing.assert_allclose(values(x[:, ::-1], alpha)[:, ::-1], p, atol=1e-6)
    order = np.argsort(x[0], kind="stable")
    assert np.all(np.diff(p[0][order]) >= -1e-6)
    certain = x[0] < x[0].max() - 1 / max(alpha - 1, 1e-9) - 1e-3
    assert np.all(p[0][certain] == 0)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_ties_are_equal_and_differentiable(alpha):
    x = np.zeros((2, 6), "float32")
    np.testing.assert_allclose(values(x, alpha), 1 / 6, rtol=1e-5)
    v = np.random.default_rng(0).normal(size=(2, 6)).astype("float32")
    s = (1 / 6) ** (2 - alpha)
    expected = s * (v - v.mean(-1, keepdims=True))
    np.testing.assert_allclose(pullback(x, v, alpha), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_large_scores(alpha):
    x = np.array([[1e4, 1e4 - 0.5, -1e4, 0.0], [-1e4, -1e4, -1e4, -1e4]], "float32")
    p = np.stack([oracle(row, alpha) for row in x])
    np.testing.assert_allclose(values(x, alpha), p, rtol=1e-4, atol=1e-6)
    v = np.array([[1.0, -2.0, 3.0, 0.5]] * 2, "float32")
    expected = np.stack([jacobian(a, alpha) @ b for a, b in zip(p, v)])
    np.testing.assert_allclose(pullback(x, v, alpha), expected, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_masked_scores_get_nothing(alpha):
    x = np.array([[0.3, -np.inf, 0.1, -np.inf]], "float32")
    p = values(x, alpha)
    np.testing.assert_allclose(p[:, [0, 2]], values(x[:, [0, 2]], alpha), rtol=1e-5)
    assert np.all(p[:, [1, 3]] == 0)
    g = pullback(x, np.array([[1.0, 5.0, -1.0, 2.0]], "float32"), alpha)
    assert np.all(np.isfinite(g)) and np.all(g[:, [1, 3]] == 0)


@pytest.mark.everywhere
@pytest.mark.parametrize("alpha", [1.99, 2.2, 10.0])
def test_rounding_gives_a_mask_nothing(alpha):
    p = values(np.array([[0.0, -np.inf, -1e4], [7.0, -np.inf, -np.inf]], "float32"), alpha)
    np.testing.assert_array_equal(p, [[1, 0, 0], [1, 0, 0]])


@pytest.mark.everywhere
@pytest.mark.parametrize("alpha", [4.0, 5.0])
def test_sharp_alphas_at_the_border_of_the_support(alpha):
    # In float32 the shift alone gives the last entry no better than 1e-7 ** (1 / (alpha - 1)).
    small = np.array([0.003, 0.01])
    p = np.stack([1 - small, small], -1)
    x = (p ** (alpha - 1) / (alpha - 1)).astype("float32")
    np.testing.assert_allclose(values(x, alpha), p, atol=2e-6)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_empty_batch(alpha):
    assert values(np.zeros((0, 4), "float32"), alpha).shape == (0, 4)


@pytest.mark.parametrize("alpha", ALPHAS[1:])
def test_a_single_class_is_certain(alpha):
    one = np.array([[3.0], [-1e4]], "float32")
    np.testing.assert_allclose(values(one, alpha), 1.0, rtol=1e-6)
    np.testing.assert_allclose(pullback(one, np.ones_like(one), alpha), 0.0, atol=1e-6)


@pytest.mark.parametrize("alpha", [1.0, 1.3, 1.5, 2.0])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(alpha, dtype):
    x = ops.cast(np.random.default_rng(0).normal(size=(3, 50)) * 5, dtype)
    p = entmax(x, alpha)
    assert keras.backend.standardize_dtype(p.dtype) == dtype
    wide = ops.cast(x, "float32")
    expected = ops.convert_to_numpy(ops.cast(entmax(wide, alpha), dtype))
    np.testing.assert_array_equal(ops.convert_to_numpy(p), expected)
    v = ops.cast(np.linspace(-1, 1, 150).reshape(3, 50), dtype)
    g = autodiff.grad(lambda x: ops.sum(ops.cast(v * entmax(x, alpha), "float32")))(x)
    assert np.all(np.isfinite(ops.convert_to_numpy(ops.cast(g, "float32"))))


@pytest.mark.parametrize("alpha", [1.3, 1.5, 2.0])
def test_many_classes(alpha):
    x = np.random.default_rng(0).normal(size=(2, 20_000)).astype("float32")
    p = np.stack([oracle(row, alpha) for row in x])
    np.testing.assert_allclose(values(x, alpha), p, rtol=2e-3, atol=2e-6)


def test_equals_its_compiled_form_with_unknown_sizes():
    x = np.random.default_rng(0).normal(size=(6, 4, 5)).astype("float32")
    inputs = keras.Input((None, None))
    for alpha in (1.0, 1.3, 1.5, 2.0):
        layer = keras.layers.Lambda(lambda x, alpha=alpha: entmax(x, alpha))
        model = keras.Model(inputs, layer(inputs))
        model.compile()
        np.testing.assert_allclose(model.predict(x, verbose=0), values(x, alpha), atol=1e-6)


def test_as_the_activation_of_a_layer(tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 6)), rng.integers(0, 3, 40)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, activation=entmax)])
    model.compile("sgd", loss="mse")
    model.fit(x, np.eye(3)[y], epochs=2, verbose=0)
    p = model.predict(x, verbose=0)
    np.testing.assert_allclose(p.sum(-1), 1.0, rtol=1e-5)
    assert (p == 0).any()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[-1].activation is entmax
    np.testing.assert_allclose(loaded.predict(x, verbose=0), p, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.9, -1, float("nan")])
def test_alpha_below_one_is_refused(alpha):
    with pytest.raises(ValueError, match="`alpha` must be a number at least 1. Received: alpha="):
        entmax(np.zeros((1, 3), "float32"), alpha)


def test_symbolic_inputs_and_any_alpha_are_saved(tmp_path):
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    inputs = keras.Input((4,))
    dense = keras.layers.Dense(4, activation=Entmax(1.3))
    model = keras.Model(inputs, [entmax(inputs, alpha=1.3), dense(inputs), entmax(inputs, 2.0, 0)])
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(expected[0], values(x, 1.3), atol=1e-6)
    kernel = dense.get_weights()[0]
    np.testing.assert_allclose(expected[1], values(x @ kernel, 1.3), atol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for one, other in zip(loaded.predict(x, verbose=0), expected):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert keras.activations.get(keras.activations.serialize(dense.activation)).alpha == 1.3
    with pytest.raises(ValueError, match="`alpha` must be a number at least 1"):
        Entmax(0.5)


@pytest.mark.parametrize("alpha", [1.0, 1.2, 1.5, 2.0])
def test_double_precision_is_kept(alpha):
    if keras.backend.backend() == "jax":
        return  # Without 64 bits.
    x = np.random.default_rng(0).normal(size=(20, 30)) * 3
    p = ops.convert_to_numpy(entmax(ops.convert_to_tensor(x, dtype="float64"), alpha))
    assert p.dtype == "float64" and np.abs(p.sum(-1) - 1).max() < 1e-14
    if alpha > 1:
        expected = np.stack([oracle(row, alpha) for row in x])
        np.testing.assert_allclose(p, expected, atol=1e-12)
