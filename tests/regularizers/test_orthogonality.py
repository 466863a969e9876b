"""The orthogonality family as functions of singular values and of single pairs of filters."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_regularize.regularizers import (
    GOR,
    SRIP,
    DoubleSoftOrthogonality,
    MutualCoherence,
    SoftOrthogonality,
    Spectral,
)
from keras_regularize.testing._common import cast, to_numpy, values_and_gradients

SHAPES = [(6, 3), (3, 6), (4, 4), (2, 2, 2, 3), (2, 1, 1, 8), (5,), ()]


def evaluate(regularizer, w, dtype="float32"):
    value, gradient = values_and_gradients(lambda w: regularizer(w))(cast(w, dtype))
    return float(to_numpy(value)), to_numpy(gradient)


def orthonormal(rows, columns, seed=0):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(max(rows, columns),) * 2))
    return q[:rows, :columns]


@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_are_those_of_the_singular_values(shape):
    w = np.asarray(np.random.default_rng(0).normal(size=shape))
    matrix = w.reshape(-1, shape[-1] if shape else 1)
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    errors = s**2 - 1
    worst = np.arange(len(s)) == np.argmax(np.abs(errors))
    soft = (u * (4 * s * errors)) @ vt
    excess = abs(matrix.shape[0] - matrix.shape[1])
    for regularizer, value, gradient in (
        (SoftOrthogonality(0.5), 0.5 * (errors**2).sum(), 0.5 * soft),
        (DoubleSoftOrthogonality(0.5), (errors**2).sum() + 0.5 * excess, soft),
        (SRIP(0.5), 0.5 * (errors**2).max(), (u * (2 * s * errors * worst)) @ vt),
    ):
        found = evaluate(regularizer, w)
        np.testing.assert_allclose(found[0], value, rtol=1e-5, err_msg=type(regularizer).__name__)
        np.testing.assert_allclose(found[1], gradient.reshape(shape), rtol=1e-4, atol=1e-4)


def test_the_farthest_singular_value_of_large_kernels():
    rng = np.random.default_rng(7)
    wide = rng.normal(size=(100, 300)) / 300**0.5
    # Far above one, far below, and at zero, where a subspace of 64 dimensions is right to a thousandth.
    for w, precision in [(wide, 1e-5), (0.3 * wide, 1e-5), (0.5 * wide.T @ wide[:, :200], 1e-3)]:
        errors = np.linalg.svd(w, compute_uv=False) ** 2 - 1
        value = evaluate(SRIP(0.5), w)[0]
        np.testing.assert_allclose(value, 0.5 * (errors**2).max(), rtol=precision)
    assert evaluate(SRIP(1.0), orthonormal(120, 100))[0] < 1e-10
    assert evaluate(SRIP(1.0), np.zeros((90, 70)))[0] == 1


@pytest.mark.parametrize("size", [5, 80])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_gives_nan(size, bad):
    for entry in [(0, 0), (2, 1), (size - 1, size - 1)]:
        w = np.random.default_rng(0).normal(size=(size, size))
        w[entry] = bad
        for kind in (SRIP, Spectral):
            assert np.isnan(evaluate(kind(1.0), w)[0]), kind.__name__


def test_both_grams_of_the_double_penalty():
    m = np.random.default_rng(1).normal(size=(3, 5))
    expected = ((m.T @ m - np.eye(5)) ** 2).sum() + ((m @ m.T - np.eye(3)) ** 2).sum()
    np.testing.assert_allclose(evaluate(DoubleSoftOrthogonality(1.0), m)[0], expected, rtol=1e-5)


@pytest.mark.parametrize("shape", [(6, 3), (3, 6), (2, 1, 2, 5)])
def test_coherence_equals_a_loop_over_pairs_of_filters(shape):
    m = np.random.default_rng(2).normal(size=shape).reshape(-1, shape[-1])
    largest = max(
        abs(m[:, i] @ m[:, j] - (i == j)) for i in range(shape[-1]) for j in range(shape[-1])
    )
    np.testing.assert_allclose(
        evaluate(MutualCoherence(2.0), m.reshape(shape))[0], 2 * largest, rtol=1e-5
    )


def test_coherence_moves_the_worst_pair_and_ties_share():
    w = np.eye(4)
    w[0, 1] = 0.5  # Filters 0 and 1 overlap by 0.5, which is also more than the errors of length.
    _, gradient = evaluate(MutualCoherence(1.0), w)
    np.testing.assert_allclose(gradient[:, 2:], 0.0, atol=1e-6)
    np.testing.assert_allclose(gradient[:, 0], w[:, 1], atol=1e-6)
    np.testing.assert_allclose(gradient[:, 1], w[:, 0], atol=1e-6)
    _, tied = evaluate(MutualCoherence(1.0), 2 * np.eye(4))  # Four lengths are wrong alike.
    np.testing.assert_allclose(tied, np.eye(4), atol=1e-6)


@pytest.mark.parametrize("rows, columns", [(6, 4), (4, 6), (4, 4)])
def test_orthonormal_kernels_cost_nothing(rows, columns):
    regularizers = [SoftOrthogonality(1.0), SRIP(1.0)]
    if rows >= columns:  # More filters than inputs are never orthogonal.
        regularizers += [GOR(1.0, 2, "inter", 1), GOR(1.0, 2, "intra", 1), MutualCoherence(1.0)]
    q = orthonormal(rows, columns)
    for regularizer in regularizers:
        value, gradient = evaluate(regularizer, q)
        assert value < 1e-5, type(regularizer).__name__
        if type(regularizer) is not MutualCoherence:  # Rounding decides which pair is the worst.
            np.testing.assert_allclose(gradient, 0.0, atol=1e-5)


def test_an_exact_identity_has_no_gradient():
    for regularizer in (SoftOrthogonality(1.0), SRIP(1.0), MutualCoherence(1.0), GOR(1.0)):
        value, gradient = evaluate(regularizer, np.eye(4))
        assert value == 0.0 and (gradient == 0).all(), type(regularizer).__name__


def test_zero_kernels_are_stationary_and_cost_the_identity():
    zero = np.zeros((6, 4))
    expected = {SoftOrthogonality: 4, DoubleSoftOrthogonality: 10, SRIP: 1, MutualCoherence: 1}
    for kind, value in expected.items():
        found = evaluate(kind(1.0), zero)
        assert found[0] == value and (found[1] == 0).all(), kind.__name__
    assert evaluate(GOR(1.0, 2, min_group_size=2), zero)[0] == 4


def test_equal_singular_values_have_finite_gradients():
    # The derivative of an eigenvector divides by the gaps between eigenvalues, which are all 0 here.
    for scale in (0.3, 2.0):
        value, gradient = evaluate(SRIP(1.0), scale * orthonormal(5, 3))
        np.testing.assert_allclose(value, (scale**2 - 1) ** 2, rtol=1e-4)
        expected = 4 * abs(scale**2 - 1) * scale  # Along one direction of length one.
        np.testing.assert_allclose(np.linalg.norm(gradient), expected, rtol=1e-4)


def gor_oracle(w, num_groups, mode, least):
    rows = w.reshape(-1, w.shape[-1]).T
    count = len(rows)
    groups = min(num_groups, max(1, count // least))
    while count % groups:
        groups -= 1
    size = count // groups
    if mode == "inter":
        sets = [rows[g * size : (g + 1) * size] for g in range(groups)]
    else:
        sets = [rows[j::size] for j in range(size)]
    total = 0.0
    for a in sets:
        gram = a.T @ a if a.shape[0] >= a.shape[1] else a @ a.T
        total += ((gram - np.eye(len(gram))) ** 2).sum()
    return total


@pytest.mark.parametrize("mode", ["inter", "intra"])
@pytest.mark.parametrize(
    "shape, num_groups, least",
    [((3, 12), 2, 4), ((20, 12), 32, 4), ((5, 12), 5, 1), ((3, 7), 3, 1), ((4, 3), 32, 4)],
)
def test_gor_equals_a_loop_over_sets(shape, num_groups, least, mode):
    w = np.random.default_rng(3).normal(size=shape)
    value, _ = evaluate(GOR(0.5, num_groups, mode, least), w)
    np.testing.assert_allclose(value, 0.5 * gor_oracle(w, num_groups, mode, least), rtol=1e-5)


def test_one_group_and_orthogonal_blocks_are_soft_orthogonality():
    rng = np.random.default_rng(4)
    w = rng.normal(size=(12, 8))
    expected = evaluate(SoftOrthogonality(0.1), w)
    for one_set in (GOR(0.1, 1, "inter"), GOR(0.1, 8, "intra", 1)):
        for found, wanted in zip(evaluate(one_set, w), expected):
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    blocks = np.zeros((12, 8))
    blocks[:6, :4], blocks[6:, 4:] = rng.normal(size=(2, 6, 4))
    expected = evaluate(SoftOrthogonality(0.1), blocks)[0]
    np.testing.assert_allclose(evaluate(GOR(0.1, 2), blocks)[0], expected, rtol=1e-5)


def test_a_slope_that_half_precision_holds():
    w = 3 * np.random.default_rng(5).normal(size=(64, 8))
    for regularizer in (SoftOrthogonality(1e-3), SRIP(1e-3), MutualCoherence(1e-3), GOR(1e-3)):
        expected = evaluate(regularizer, w)
        for dtype in ("float16", "bfloat16"):
            found = evaluate(regularizer, w, dtype)
            np.testing.assert_allclose(found[0], expected[0], rtol=0.03)
            size = np.abs(expected[1]).max()
            np.testing.assert_allclose(found[1], expected[1], atol=0.05 * size)


def test_training_brings_singular_values_to_one():
    x = np.random.default_rng(6).normal(size=(64, 12)).astype("float32")
    y = x @ np.random.default_rng(7).normal(size=(12, 4)).astype("float32")
    steps = np.tile(x, (30, 1)), np.tile(y, (30, 1))
    worst = {}
    for name, regularizer in {"soft": SoftOrthogonality(20.0), "srip": SRIP(20.0)}.items():
        keras.utils.set_random_seed(0)
        layer = keras.layers.Dense(4, use_bias=False, kernel_regularizer=regularizer)
        model = keras.Sequential([keras.Input((12,)), layer])
        model.compile(keras.optimizers.SGD(2e-3), "mse")
        model.fit(*steps, batch_size=16, verbose=0)
        s = np.linalg.svd(ops.convert_to_numpy(layer.kernel.value), compute_uv=False)
        worst[name] = np.abs(s - 1).max()
    assert np.linalg.svd(np.linalg.lstsq(x, y, rcond=None)[0], compute_uv=False).max() > 3
    assert worst["soft"] < 0.1 and worst["srip"] < 0.1, worst


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: SoftOrthogonality(-1), "`factor` must be a number at least 0"),
        (lambda: SRIP("a"), "`factor` must be a number at least 0"),
        (lambda: GOR(num_groups=0), "`num_groups` must be an integer of at least 1"),
        (lambda: GOR(mode="all"), "`mode` must be one of 'inter', 'intra'"),
        (lambda: GOR(min_group_size=0), "`min_group_size` must be an integer of at least 1"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
