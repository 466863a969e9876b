"""Images by total variation: denoised, and from projections."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_regularize as kr
from keras_regularize.testing._common import fused, to_numpy


def noisy(shape=(5, 6), seed=0):
    return np.random.default_rng(seed).normal(0.5, 0.3, shape).astype("float32")


def total(x, weights=1.0):
    down, right = np.zeros_like(x), np.zeros_like(x)
    down[:-1], right[:, :-1] = np.diff(x, axis=0), np.diff(x, axis=1)
    return np.sum(weights * np.sqrt(down**2 + right**2))


def phantom(size=20):
    image = np.zeros((size, size), "float32")
    image[3:17, 4:16] = 0.5
    image[6:10, 7:13] = 1.0
    image[12:15, 6:9] = 0.2
    return image


def rmse(x, y):
    return float(np.sqrt(np.mean(np.square(to_numpy(x) - y))))


def test_limits_of_denoising():
    y = noisy()
    denoise = kr.inverse.total_variation_denoise
    np.testing.assert_allclose(denoise(y, 0.0), y, atol=1e-5)
    np.testing.assert_allclose(to_numpy(denoise(y, 0.1)).mean(), y.mean(), rtol=1e-5)
    for x in (denoise(y, 100.0), denoise(y, 1.0, weights=np.full((5, 6), np.inf))):
        np.testing.assert_allclose(x, np.full_like(y, y.mean()), atol=1e-4)
    assert to_numpy(denoise(y - 0.5, 0.1, nonnegative=True)).min() == 0.0
    # No change of an image of the minimum decreases the objective.
    x = to_numpy(denoise(y, 0.1))
    least = 0.5 * np.sum((x - y) ** 2) + 0.1 * total(x)
    rng = np.random.default_rng(1)
    for _ in range(20):
        other = x + rng.normal(0.0, 0.01, x.shape)
        assert 0.5 * np.sum((other - y) ** 2) + 0.1 * total(other) > least


def test_tolerance_stops_early_near_the_minimum():
    y = noisy()
    full = kr.inverse.total_variation_denoise(y, 0.1)
    early = kr.inverse.total_variation_denoise(y, 0.1, iterations=10_000, tolerance=1e-5)
    np.testing.assert_allclose(early, full, atol=1e-3)


def test_no_image_of_a_batch_stops_another():
    denoise, options = kr.inverse.total_variation_denoise, {"iterations": 300, "tolerance": 1e-3}
    y = noisy((4, 5))
    units = np.array([1.0, 1e-4, np.nan], "float32")[:, None, None, None]
    found = to_numpy(denoise(y[..., None] * units, 0.1, np.nan_to_num(units), **options))
    assert np.isnan(found[2]).all()
    for x, unit in zip(found, (1.0, 1e-4)):
        np.testing.assert_allclose(x[..., 0] / unit, denoise(y, 0.1), atol=0.02)


def test_no_images_have_no_solutions():
    found = kr.inverse.chambolle_pock(np.ones((0, 3)), np.ones((3, 4)), 0.1, (2, 2), iterations=2)
    assert found.shape == (0, 2, 2)
    found = kr.inverse.plug_and_play(np.ones((0, 3)), np.ones((3, 4)), ops.relu, iterations=2)
    assert found.shape == (0, 4)


def test_channels_and_batches_are_images_of_their_own():
    y = noisy((2, 5, 6, 3))
    every = to_numpy(kr.inverse.total_variation_denoise(y, 0.1, iterations=30))
    one = kr.inverse.total_variation_denoise(y[1, ..., 2], 0.1, iterations=30)
    np.testing.assert_allclose(every[1, ..., 2], one, atol=1e-5)


def test_weights_are_one_where_the_image_is_flat():
    weights = to_numpy(kr.inverse.space_variant_weights(phantom(), eta=1e-2, p=0.5))
    assert weights.min() > 0 and weights.max() == 1.0
    np.testing.assert_allclose(weights[4, 3], (1e-2 / np.hypot(1e-2, 0.5)) ** 0.5, rtol=1e-4)
    np.testing.assert_array_equal(kr.inverse.space_variant_weights(phantom(), p=1.0), 1.0)


def test_the_norm_of_an_operator():
    matrix = noisy((7, 5))
    norm = np.linalg.norm(matrix, 2)
    np.testing.assert_allclose(kr.inverse.operator_norm(matrix), norm, rtol=1e-4)
    tensor = ops.convert_to_tensor(matrix)
    pair = (lambda x: ops.matmul(tensor, x), lambda y: ops.matmul(y, tensor))
    np.testing.assert_allclose(kr.inverse.operator_norm(pair, (5,)), norm, rtol=1e-4)
    for scale in (1e-14, 1e14):
        scaled = kr.inverse.operator_norm(matrix * np.float32(scale))
        np.testing.assert_allclose(scaled, norm * scale, rtol=1e-4)
    np.testing.assert_array_equal(kr.inverse.operator_norm(np.zeros((2, 3))), 0.0)
    with pytest.raises(ValueError, match="Functions need the `shape`"):
        kr.inverse.operator_norm(pair)
    with pytest.raises(ValueError, match="must be a matrix"):
        kr.inverse.operator_norm(3.0)


def test_projections_are_integrals_over_strips():
    """Of a square, counted at many points."""
    angles = np.array([0.0, 0.3, np.pi / 2, 2.5])
    forward, adjoint = kr.inverse.radon_operator((3, 4), angles)
    image = noisy((3, 4))
    fine = np.kron(image, np.ones((200, 200)))
    rows = (np.arange(600) + 0.5) / 200 - 1.5
    columns = (np.arange(800) + 0.5) / 200 - 2.0
    expected = []
    for angle in angles:
        offsets = columns * np.cos(angle) + rows[:, None] * np.sin(angle)
        strips = np.floor(offsets + 2.5).astype(int)
        expected.append(np.bincount(strips.ravel(), fine.ravel(), 5) / 200**2)
    np.testing.assert_allclose(forward(image), expected, atol=5e-3)
    matrix = kr.inverse.radon_operator((3, 4), angles, dense=True)
    np.testing.assert_allclose(to_numpy(forward(image)).ravel(), matrix @ image.ravel(), atol=1e-5)
    y = noisy((2, 4, 5), seed=1)  # Two at once.
    back = y.reshape(2, -1) @ matrix
    np.testing.assert_allclose(to_numpy(adjoint(y)).reshape(2, -1), back, atol=1e-5)


def test_a_matrix_is_the_pair_of_functions():
    angles = np.linspace(0.0, np.pi, 5, endpoint=False)
    radon = kr.inverse.radon_operator((6, 6), angles)
    matrix = kr.inverse.radon_operator((6, 6), angles, dense=True)
    images = noisy((2, 6, 6))
    y = to_numpy(radon.forward(images))
    arguments = {"factor": 0.1, "shape": (6, 6), "iterations": 20}
    by_functions = kr.inverse.chambolle_pock(y, radon, **arguments)
    run = fused(lambda y: kr.inverse.chambolle_pock(y, matrix, **arguments))
    by_matrix = run(ops.convert_to_tensor(y.reshape(2, -1)))
    np.testing.assert_allclose(by_functions, by_matrix, atol=1e-4)


def test_solvers_have_a_gradient():
    """Unrolled: of the regularized solution in the data."""
    y = noisy((3, 3))
    weigh = ops.convert_to_tensor(noisy((3, 3), seed=1))

    def value(y):
        return ops.sum(weigh * kr.inverse.total_variation_denoise(y, 0.05, iterations=5))

    gradient = to_numpy(kr.autodiff.grad(value)(ops.convert_to_tensor(y)))
    step = np.zeros((3, 3), "float32")
    step[1, 1] = 1e-2
    change = (to_numpy(value(y + step)) - to_numpy(value(y - step))) / 2e-2
    np.testing.assert_allclose(gradient[1, 1], change, rtol=2e-2, atol=1e-3)


def test_the_units_of_measurements_do_not_matter():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(40, 20)).astype("float32")
    y = matrix @ rng.uniform(size=20).astype("float32")
    solve = fused(
        lambda y, matrix, factor: kr.inverse.chambolle_pock(
            y, matrix, 1.0, (4, 5), weights=factor, iterations=700
        )
    )
    found = {}
    for unit in (1e-6, 1.0, 1e6):
        factor = np.full((4, 5), unit**2, "float32")
        given = (np.float32(unit) * y, np.float32(unit) * matrix, factor)
        found[unit] = to_numpy(solve(*map(ops.convert_to_tensor, given)))
    assert np.ptp(found[1.0]) > 0.1
    for unit in (1e-6, 1e6):
        np.testing.assert_allclose(found[unit], found[1.0], atol=1e-3)


def test_huge_factors_and_sharp_edges():
    y = noisy()
    flat = kr.inverse.total_variation_denoise(y, 1e300, iterations=2000)
    np.testing.assert_allclose(flat, np.full_like(y, y.mean()), atol=1e-3)
    step = np.array([[0.0, 0.0, 1.0]], "float32")
    weights = kr.inverse.space_variant_weights(step, eta=1e-25)
    np.testing.assert_allclose(weights, [[1.0, 0.0, 1.0]], atol=1e-6)


@pytest.mark.rotating
def test_few_views_need_weights_that_know_the_edges():
    """Of a phantom from nine noisy views: total variation, its own edges, the true ones."""
    image = phantom()
    angles = np.linspace(0.0, np.pi, 9, endpoint=False)
    matrix = kr.inverse.radon_operator(image.shape, angles, dense=True)
    clean = matrix @ image.ravel()
    y = clean + 0.02 * clean.max() * np.random.default_rng(0).normal(size=clean.shape)
    y, matrix = map(ops.convert_to_tensor, (y.astype("float32"), matrix))

    def reconstruct(y, pre_estimate):
        return kr.inverse.space_variant_reconstruct(
            y, matrix, 1.0, image.shape, pre_estimate, eta=0.02, p=0.2, rough_iterations=200
        )

    # Each with the best of the factors 0.1, 0.3, 1 and 3.
    plain = fused(lambda y: kr.inverse.chambolle_pock(y, matrix, 0.3, image.shape))(y)
    own = fused(lambda y: reconstruct(y, "tv"))(y)
    ideal = fused(lambda y: reconstruct(y, image))(y)
    assert rmse(ideal, image) < 0.6 * rmse(own, image)
    assert rmse(own, image) < 0.9 * rmse(plain, image)


def test_a_model_makes_the_estimate():
    shapes = []

    class Sharpen(keras.layers.Layer):
        def call(self, x):
            shapes.append(tuple(x.shape))
            return ops.clip(2.0 * x, 0.0, 1.0)

    radon = kr.inverse.radon_operator((6, 6), np.array([0.0, 1.0, 2.0]))
    y = radon.forward(phantom(24)[::4, ::4][None])
    options = {"shape": (6, 6), "iterations": 5, "rough_iterations": 5}
    found = kr.inverse.space_variant_reconstruct(y, radon, 0.1, pre_estimate=Sharpen(), **options)
    assert shapes[-1] == (1, 6, 6, 1) and found.shape == (1, 6, 6)


@pytest.mark.once
@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: kr.inverse.total_variation_denoise(np.ones(3), 0.1), "`y` must be"),
        (lambda: kr.inverse.total_variation_denoise(noisy(), -1.0), "`factor` must be"),
        (lambda: kr.inverse.total_variation_denoise(noisy(), 1.0, np.ones((2, 6))), "broadcast"),
        (lambda: kr.inverse.total_variation_denoise(noisy(), 1.0, -noisy()), "at least 0"),
        (lambda: kr.inverse.chambolle_pock(np.ones(4), np.ones((4, 4)), 1, None), "an image"),
        (lambda: kr.inverse.chambolle_pock(np.ones(4), np.ones((4, 5)), 1, (2, 3)), "5 pixels"),
        (lambda: kr.inverse.chambolle_pock(np.ones(3), np.ones((4, 6)), 1, (2, 3)), "6 pixels"),
        (
            lambda: kr.inverse.chambolle_pock(np.ones(4), np.ones(4), 1, (2, 2)),
            "a pair of functions",
        ),
        (lambda: kr.inverse.chambolle_pock(np.ones(4), np.ones((4, 4)), 1, (4,)), "an image"),
        (lambda: kr.inverse.chambolle_pock(np.ones(4), np.sum, 1, (2, 2)), "a pair of functions"),
        (lambda: kr.inverse.chambolle_pock(np.ones(4), None, 1, (2, 2)), "a pair of functions"),
        (lambda: kr.inverse.total_variation_denoise(noisy() * 1j, 0.1), "real numbers"),
        (lambda: kr.inverse.operator_norm(np.ones((2, 2)) * 1j), "real numbers"),
        (lambda: kr.inverse.radon_operator((3, 3), 0.5), "num_angles"),
        (lambda: kr.inverse.radon_operator((3, 3), [np.nan]), "finite"),
        (lambda: kr.inverse.radon_operator((3, 3, 1), [0.5]), "`shape` must be"),
        (
            lambda: kr.inverse.space_variant_reconstruct(
                np.ones(4), np.ones((4, 6)), 1, (2, 3), np.ones((1, 3))
            ),
            "must be images",
        ),
        (lambda: kr.inverse.space_variant_weights(noisy(), p=0.0), "`p` must be"),
        (
            lambda: kr.inverse.space_variant_reconstruct(noisy(), None, 1, (2, 2), "fbp"),
            "`pre_estimate` must be",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
