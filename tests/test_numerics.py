import keras
import numpy as np
import pytest
from keras import ops

from keras_regularize import autodiff, numerics

DTYPES = ["float32", "float16", "bfloat16"]
EPSILON = {"float32": 1e-6, "float16": 2e-3, "bfloat16": 2e-2}


def tensor(x, dtype="float32"):
    return ops.cast(np.asarray(x, "float32"), dtype)


def array(x):
    return ops.convert_to_numpy(ops.cast(x, "float32"))


def dtype_of(x):
    return keras.backend.standardize_dtype(x.dtype)


def gradient(f, x):
    return array(autodiff.grad(lambda x: ops.sum(ops.cast(f(x), "float32")))(x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_upcast(dtype):
    assert dtype_of(numerics.upcast(tensor([1.0], dtype))) == "float32"
    assert dtype_of(numerics.upcast(np.array([1, 2], "int32"))) == "float32"
    np.testing.assert_array_equal(gradient(numerics.upcast, tensor([1.0, 2.0], dtype)), [1, 1])


def test_upcast_drops_no_imaginary_part():
    with pytest.raises(ValueError, match="real numbers. Received: dtype complex64"):
        numerics.upcast(np.ones(2, "complex64"))


def test_upcast_takes_variables():
    assert dtype_of(numerics.upcast(keras.Variable(np.ones(2), dtype="float32"))) == "float32"


@pytest.mark.parametrize("dtype", DTYPES)
def test_safe_sqrt(dtype):
    x = tensor([0.0, -0.0, -4.0, 0.25, 9.0], dtype)
    np.testing.assert_allclose(array(numerics.safe_sqrt(x)), [0, 0, 0, 0.5, 3])
    assert dtype_of(numerics.safe_sqrt(x)) == dtype
    np.testing.assert_allclose(
        gradient(numerics.safe_sqrt, x), [0, 0, 0, 1, 1 / 6], rtol=EPSILON[dtype]
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_safe_log(dtype):
    x = tensor([0.0, -1.0, 0.5, 1.0], dtype)
    value, slope = array(numerics.safe_log(x)), gradient(numerics.safe_log, x)
    smallest = np.log(6.1e-5) if dtype == "float16" else np.log(1.18e-38)
    np.testing.assert_allclose(value[:2], smallest, rtol=1e-2)
    np.testing.assert_allclose(value[2:], np.log([0.5, 1.0]), rtol=EPSILON[dtype])
    np.testing.assert_allclose(slope, [0, 0, 2, 1])
    assert dtype_of(numerics.safe_log(x)) == dtype


@pytest.mark.parametrize("dtype", DTYPES)
def test_xlogy(dtype):
    x = tensor([0.0, 0.0, 0.5, -1.0, 2.0], dtype)
    y = tensor([0.0, 3.0, 0.5, 2.0, 0.0], dtype)
    value = array(numerics.xlogy(x, y))
    np.testing.assert_allclose(
        value[:4], [0, 0, 0.5 * np.log(0.5), -np.log(2)], rtol=EPSILON[dtype]
    )
    assert np.isfinite(value[4]) and value[4] < -15
    slope = gradient(lambda x: numerics.xlogy(x, x), x)
    np.testing.assert_allclose(slope[:3], [0, 0, np.log(0.5) + 1], rtol=2 * EPSILON[dtype])
    slope = gradient(lambda y: numerics.xlogy(x, y), y)
    np.testing.assert_allclose(slope, [0, 0, 1, -0.5, 0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_entropy_of_a_certain_distribution(dtype):
    p = tensor([1.0, 0.0, 0.0], dtype)
    assert float(ops.sum(numerics.xlogy(p, p))) == 0
    assert np.all(np.isfinite(gradient(lambda p: numerics.xlogy(p, p), p)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_safe_expm1(dtype):
    x = tensor([-1e4, -1e-3, 0.0, 2.0, 1e4], dtype)
    wide = array(x).astype("float64")
    value = numerics.safe_expm1(x)
    expected = np.expm1(np.minimum(wide, 60)) + np.exp(60) * np.maximum(wide - 60, 0)
    np.testing.assert_allclose(array(value), expected, rtol=1e-5)
    assert dtype_of(value) == "float32"
    slope = gradient(numerics.safe_expm1, ops.cast(x, "float32"))
    np.testing.assert_allclose(slope, np.exp(np.minimum(wide, 60)), rtol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_safe_abs(dtype):
    x = tensor([-2.0, 0.0, 3.0], dtype)
    np.testing.assert_array_equal(array(numerics.safe_abs(x)), [2, 0, 3])
    np.testing.assert_array_equal(gradient(numerics.safe_abs, x), [-1, 0, 1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_safe_arccos(dtype):
    x = tensor([-1.0, -0.5, 0.0, 0.5, 1.0], dtype)
    value, slope = array(numerics.safe_arccos(x)), gradient(numerics.safe_arccos, x)
    # The margin costs sqrt(2 · margin) of the angle at the ends.
    np.testing.assert_allclose(value, np.arccos([-1, -0.5, 0, 0.5, 1]), atol=0.05)
    np.testing.assert_allclose(
        slope[1:4], -1 / np.sqrt(1 - np.array([0.25, 0, 0.25])), rtol=EPSILON[dtype]
    )
    assert np.all(np.isfinite(slope))
    outside = tensor([-1.1, 1.1], dtype)
    assert np.all(np.isfinite(array(numerics.safe_arccos(outside))))
    assert np.all(np.isfinite(gradient(numerics.safe_arccos, outside)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_safe_norm(dtype):
    x = tensor([[3.0, 4.0], [0.0, 0.0]], dtype)
    norm = numerics.safe_norm(x, axis=-1)
    np.testing.assert_allclose(array(norm), [5, 0], rtol=EPSILON[dtype])
    assert dtype_of(norm) == dtype
    slope = gradient(lambda x: numerics.safe_norm(x, axis=-1), x)
    np.testing.assert_allclose(slope, [[0.6, 0.8], [0, 0]], rtol=EPSILON[dtype])
    assert numerics.safe_norm(x, axis=0, keepdims=True).shape == (1, 2)
    assert float(numerics.safe_norm(x)) == pytest.approx(5, rel=EPSILON[dtype])
    assert not np.any(gradient(numerics.safe_norm, tensor(np.zeros((3, 2)), dtype)))


def test_safe_norm_sums_half_precision_in_float32():
    # The squares overflow float16, and a sum of 10 000 ones stalls at 256 in bfloat16.
    assert float(numerics.safe_norm(tensor([3e4, 4e4], "float16"))) == pytest.approx(5e4, rel=1e-3)
    ones = tensor(np.ones(10_000), "bfloat16")
    assert float(ops.cast(numerics.safe_norm(ones), "float32")) == pytest.approx(100, rel=1e-2)


def test_inverse_softplus():
    for value in (1e-6, 0.3, 20.0):
        assert np.log1p(np.exp(numerics.inverse_softplus(value))) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
def test_unit_vectors(dtype):
    x = tensor([[3e4, 4e4], [0.0, 0.0], [0.0, -2.0]], dtype)
    units = numerics.unit_vectors(x)
    np.testing.assert_allclose(array(units), [[0.6, 0.8], [0, 0], [0, -1]], rtol=EPSILON[dtype])
    assert dtype_of(units) == dtype
    # To the first order a unit vector only turns; zero has no direction.
    slope = gradient(lambda x: numerics.unit_vectors(x)[:, 0], x)
    np.testing.assert_allclose(slope[1:], [[0, 0], [0.5, 0]], rtol=EPSILON[dtype])
    assert np.abs(slope[0]).max() < 1e-4
    columns = numerics.unit_vectors(tensor([[3.0], [4.0]], dtype), axis=0)
    np.testing.assert_allclose(array(columns), [[0.6], [0.8]], rtol=EPSILON[dtype])


def test_unit_vectors_of_any_size():
    x = tensor([[3e30, 4e30], [3e-9, 4e-9]])
    np.testing.assert_allclose(array(numerics.unit_vectors(x)), [[0.6, 0.8]] * 2, rtol=1e-6)
    slope = gradient(lambda x: numerics.unit_vectors(x)[:, 0], x)
    np.testing.assert_allclose(slope[1], [0.128e9, -0.096e9], rtol=1e-5)


def test_global_norm():
    tensors = [tensor([[3.0]]), tensor([0.0, 4.0], "float16"), keras.Variable([12.0])]
    norm = ops.stop_gradient(numerics.global_norm(tensors))
    assert dtype_of(norm) == "float32" and tuple(norm.shape) == ()
    assert float(norm) == pytest.approx(13)
    assert float(numerics.global_norm([])) == 0
    g = autodiff.grad(lambda ts: numerics.global_norm(ts))([tensor([0.0]), tensor([0.0, 0.0])])
    assert all(not np.any(array(x)) for x in g)


NAN_IN = {
    "safe_sqrt": numerics.safe_sqrt,
    "safe_log": numerics.safe_log,
    "xlogy in x": lambda x: numerics.xlogy(x, ops.ones_like(x)),
    "xlogy in y": lambda y: numerics.xlogy(ops.ones_like(y), y),
    "safe_expm1": numerics.safe_expm1,
    "safe_abs": numerics.safe_abs,
    "safe_arccos": numerics.safe_arccos,
    "safe_norm": lambda x: numerics.safe_norm(x, axis=-1),
    "unit_vectors": numerics.unit_vectors,
    "global_norm": lambda x: numerics.global_norm([ops.ones((3,)), x[0]]),
    "masked_mean": lambda x: numerics.masked_mean(x[0], ops.ones((2,))),
    "squared_distances": lambda x: numerics.squared_distances(x, x),
    "log_probabilities of logits": lambda x: numerics.log_probabilities(x, from_logits=True),
    "log_probabilities": lambda x: numerics.log_probabilities(x, from_logits=False),
    "kl_divergence in p": lambda x: numerics.kl_divergence(x, ops.ones_like(x)),
    "kl_divergence in q": lambda x: numerics.kl_divergence(ops.ones_like(x), x),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", NAN_IN.values(), ids=NAN_IN)
def test_nan_gives_nan_and_spoils_no_other_row(function, dtype):
    value = array(function(tensor([[0.5, np.nan], [0.5, 0.25]], dtype)))
    assert np.isnan(value.flat[: value.shape[-1] if value.ndim else 1]).any()
    if value.ndim:
        assert np.isfinite(value.flat[-1])


@pytest.mark.parametrize("mask", [[True, False, True], [1.0, 0.0, 1.0]])
def test_masked_mean_leaves_out_what_the_mask_does(mask):
    # Also what is not a number: `0 · nan` would not be 0.
    x = tensor([1.0, np.nan, 5.0])
    mask = ops.convert_to_tensor(mask)
    assert float(numerics.masked_mean(x, mask)) == pytest.approx(3)
    np.testing.assert_allclose(gradient(lambda x: numerics.masked_mean(x, mask), x), [0.5, 0, 0.5])


def test_masked_mean_with_weights_and_axis():
    x = tensor([[1.0, 2.0], [3.0, 4.0]])
    weights = tensor([[1.0, 3.0], [0.0, 0.0]])
    np.testing.assert_allclose(array(numerics.masked_mean(x, weights, axis=1)), [7 / 4, 0])
    empty = ops.zeros((2, 2), dtype="bool")
    assert float(numerics.masked_mean(x, empty)) == 0
    assert not np.any(gradient(lambda x: numerics.masked_mean(x, empty), x))


@pytest.mark.parametrize("dtype", DTYPES)
def test_squared_distances(dtype):
    rng = np.random.default_rng(0)
    x, y = tensor(rng.normal(size=(4, 3)), dtype), tensor(rng.normal(size=(5, 3)), dtype)
    d = numerics.squared_distances(x, y)
    expected = np.array([[((a - b) ** 2).sum() for b in array(y)] for a in array(x)])
    assert dtype_of(d) == "float32"
    np.testing.assert_allclose(array(d), expected, rtol=1e-4, atol=1e-5)
    slope = gradient(lambda x: numerics.squared_distances(x, y), x)
    exact = 2 * (5 * array(x) - array(y).sum(0))
    np.testing.assert_allclose(slope, exact, rtol=max(1e-4, EPSILON[dtype]), atol=EPSILON[dtype])


def test_squared_distances_far_from_the_origin():
    x = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
    far = numerics.squared_distances(tensor(x + 4096.0), tensor(x[:4] + 4096.0))
    near = ((x[:, None] - x[None, :4]) ** 2).sum(-1)
    # The tolerance is what `x + 4096` itself rounds.
    np.testing.assert_allclose(array(far), near, rtol=2e-3, atol=2e-3)


def test_squared_distances_of_equal_rows():
    x = tensor(np.random.default_rng(0).normal(size=(6, 50)) * 100)
    d = array(numerics.squared_distances(x, x))
    assert np.all(d >= 0)
    np.testing.assert_allclose(np.diag(d), 0, atol=1e-6 * (array(x) ** 2).sum(-1).max())
    root = gradient(lambda x: numerics.safe_sqrt(numerics.squared_distances(x, x)), x)
    zeros = tensor(np.zeros((3, 2)))
    assert np.all(np.isfinite(root))
    assert not np.any(gradient(lambda x: numerics.squared_distances(x, x), zeros))


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_probabilities_of_logits(dtype):
    z = tensor([[1.0, 2.0, 0.5], [1e4, -1e4, 0.0], [0.0, 0.0, 0.0]], dtype)
    log_p = numerics.log_probabilities(z, from_logits=True)
    wide = array(z).astype("float64")
    shifted = wide - wide.max(-1, keepdims=True)
    expected = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    np.testing.assert_allclose(array(log_p), expected, rtol=1e-5, atol=1e-6)
    assert dtype_of(log_p) == "float32"
    slope = gradient(lambda z: numerics.log_probabilities(z, from_logits=True)[:, 1], z)
    p = np.exp(expected)
    np.testing.assert_allclose(slope, np.eye(3)[[1, 1, 1]] - p, atol=EPSILON[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_probabilities_of_probabilities(dtype):
    p = tensor([[0.25, 0.5, 0.25], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [2.0, 1.0, 1.0]], dtype)
    log_p = array(numerics.log_probabilities(p, from_logits=False))
    floor = np.log(1e-7)
    expected = [
        np.log([0.25, 0.5, 0.25]),
        [0, floor, floor],
        [floor, floor, floor],
        np.log([0.5, 0.25, 0.25]),
    ]
    np.testing.assert_allclose(log_p, expected, rtol=1e-5, atol=1e-6)
    slope = gradient(lambda p: numerics.log_probabilities(p, from_logits=False), p)
    assert np.all(np.isfinite(slope))
    np.testing.assert_array_equal(slope[1:3], 0)  # Outside of the clip.
    # The sum of the three logarithms at (1/4, 1/2, 1/4), through the normalisation.
    np.testing.assert_allclose(slope[0], [1.0, -1.0, 1.0], atol=EPSILON[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_probabilities_of_one_column(dtype):
    z = tensor([[0.5], [-1e4], [1e4], [0.0]], dtype)
    log_p = array(numerics.log_probabilities(z, from_logits=True))
    wide = array(z).astype("float64")
    expected = np.concatenate([-np.logaddexp(0, wide), -np.logaddexp(0, -wide)], axis=-1)
    np.testing.assert_allclose(log_p, expected, rtol=1e-5, atol=1e-6)
    slope = gradient(lambda z: numerics.log_probabilities(z, from_logits=True)[:, 1], z)
    expected = np.exp(-np.logaddexp(0, wide))
    np.testing.assert_allclose(slope, expected, atol=EPSILON[dtype])
    p = tensor([[0.25], [0.0], [1.0]], dtype)
    log_p = array(numerics.log_probabilities(p, from_logits=False))
    np.testing.assert_allclose(
        np.exp(log_p), [[0.75, 0.25], [1, 1e-7], [1e-7, 1]], rtol=1e-5, atol=1e-8
    )
    slope = gradient(lambda p: numerics.log_probabilities(p, from_logits=False), p)
    assert np.all(np.isfinite(slope))


@pytest.mark.parametrize("dtype", DTYPES)
def test_kl_divergence(dtype):
    log_p = tensor(np.log([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]), dtype)
    log_q = tensor(np.log([[0.2, 0.2, 0.6], [0.1, 0.2, 0.7]]), dtype)
    wide_p, wide_q = array(log_p).astype("float64"), array(log_q).astype("float64")
    value = numerics.kl_divergence(log_p, log_q)
    expected = [sum(np.exp(a) * (a - b)) for a, b in zip(wide_p, wide_q)]
    np.testing.assert_allclose(array(value), expected, rtol=1e-5, atol=1e-6)
    assert dtype_of(value) == "float32"
    slope = gradient(lambda log_p: numerics.kl_divergence(log_p, log_q), log_p)
    exact = np.exp(wide_p) * (wide_p - wide_q + 1)
    np.testing.assert_allclose(slope, exact, atol=EPSILON[dtype])
    slope = gradient(lambda log_q: numerics.kl_divergence(log_p, log_q), log_q)
    np.testing.assert_allclose(slope, -np.exp(wide_p), atol=EPSILON[dtype])


def test_kl_divergence_of_certain_predictions():
    z = tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]])
    other = numerics.log_probabilities(ops.flip(z, axis=0), True)

    def of_logits(z):
        return numerics.kl_divergence(numerics.log_probabilities(z, True), other)

    np.testing.assert_allclose(array(of_logits(z)), [2e4, 2e4], rtol=1e-6)
    assert np.all(np.isfinite(gradient(of_logits, z)))


FLOAT64 = pytest.param(
    "float64",
    marks=pytest.mark.skipif(
        keras.backend.backend() == "jax", reason="float64 is a flag of the whole process"
    ),
)


@pytest.mark.parametrize("dtype", ["float32", FLOAT64])
def test_standardized(dtype):
    x = np.random.default_rng(0).normal(size=(3, 4, 7))
    x[0, 0] = 2.5
    value = numerics.standardized(ops.convert_to_tensor(x.astype(dtype)))
    assert dtype_of(value) == dtype
    expected = (x - x.mean(-1, keepdims=True)) / np.maximum(x.std(-1, keepdims=True), 1e-9)
    atol = 1e-5 if dtype == "float32" else 1e-14
    np.testing.assert_allclose(ops.convert_to_numpy(value), expected, atol=atol)
