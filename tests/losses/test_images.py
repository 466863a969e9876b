"""Losses of depths and images: oracles, pixels without a measurement, and images that are degenerate."""

import keras
import numpy as np
import pytest
from keras import layers
from scipy import ndimage

import keras_regularize as kr
from tests.helpers import array, evaluate_loss

RNG = np.random.default_rng(0)
X, Y = RNG.uniform(size=(2, 3, 14, 15, 2)).astype("float32")
DEPTH, OTHER = RNG.uniform(0.5, 4, (2, 3, 6, 7)).astype("float32")
DEPTH_LOSSES = [
    kr.losses.ScaleInvariantLog(0.5, reduction="none"),
    kr.losses.ScaleShiftInvariant(reduction="none"),
]
depth_losses = pytest.mark.parametrize("loss", DEPTH_LOSSES, ids=lambda loss: loss.name)


def similarity(x, y, window, sigma, top):
    """Of one channel in float64, window by window."""
    x, y = x.astype("float64"), y.astype("float64")
    line = np.exp(-0.5 * ((np.arange(window) - window // 2) / sigma) ** 2)
    kernel = np.outer(line, line) / line.sum() ** 2
    rim = window // 2

    def mean(z):
        return ndimage.correlate(z, kernel)[rim : len(z) - rim, rim : z.shape[1] - rim]

    mx, my, c1, c2 = mean(x), mean(y), (0.01 * top) ** 2, (0.03 * top) ** 2
    vx, vy, cov = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    return ((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean()


@pytest.mark.everywhere
@pytest.mark.parametrize("window, sigma, top", [(11, 1.5, 1.0), (5, 0.8, 255.0), (3, 1.0, 1.0)])
def test_similarity_is_that_of_all_windows(window, sigma, top):
    x, y = top * X, top * (0.7 * X + 0.3 * Y)
    expected = [
        np.mean([similarity(a[..., c], b[..., c], window, sigma, top) for c in range(2)])
        for a, b in zip(x, y)
    ]
    loss = kr.losses.SSIM(window, sigma, top, reduction="none")
    np.testing.assert_allclose(array(loss(x, y)), 1 - np.array(expected), rtol=1e-4, atol=1e-6)
    gray = array(loss(x[..., 0], y[..., :1]))
    expected = [similarity(a[..., 0], b[..., 0], window, sigma, top) for a, b in zip(x, y)]
    np.testing.assert_allclose(gray, 1 - np.array(expected), rtol=1e-4, atol=1e-6)
    metric = kr.metrics.SSIM(window, sigma, top)
    metric.update_state(x, y, sample_weight=np.array([1.0, 0.0, 0.5]))
    expected = 1 - np.average(array(loss(x, y)), weights=[1.0, 0.0, 0.5])
    assert float(metric.result()) == pytest.approx(expected, rel=1e-5)


if keras.backend.backend() == "tensorflow":

    def test_similarity_is_that_of_tensorflow():
        import tensorflow as tf

        expected = 1 - tf.image.ssim(X, Y, 1.0).numpy()
        found = array(kr.losses.SSIM(reduction="none")(X, Y))
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_similarity_of_degenerate_images():
    loss = kr.losses.SSIM(5, reduction="none")
    for x, y in ((X, X), (0 * X, 0 * X), (0 * X + 1e4, 0 * X + 1e4)):
        value, gradient = evaluate_loss(loss, x, y)
        np.testing.assert_allclose(value, 0.0, atol=2e-5)
        assert np.isfinite(gradient).all()
    for scale in (0.0, 1e4):
        value, gradient = evaluate_loss(loss, X, scale * np.sign(Y - 0.5))
        assert np.isfinite(value).all()
        assert np.isfinite(gradient).all()
    assert (evaluate_loss(loss, X, 1 - X)[0] > 1).all()
    assert array(loss(X[:0], Y[:0])).shape == (0,)
    for images in ((X[:, :4], Y[:, :4]), (X[0, 0], Y[0, 0]), (X, Y[..., :1])):
        with pytest.raises(ValueError, match="Received: "):
            loss(*images)
    with pytest.raises(ValueError, match="`window` must be odd"):
        kr.losses.SSIM(window=4)
    with pytest.raises(ValueError, match="Images of integers need `max_value`"):
        loss((255 * X).astype("uint8"), 255 * Y)
    bytes_ = np.round(255 * X).astype("uint8")
    found = [
        array(kr.losses.SSIM(5, max_value=255)(x, 255 * Y)) for x in (bytes_, bytes_ / 255.0 * 255)
    ]
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_images_of_any_size():
    net = keras.Sequential([keras.Input((None, None, 2)), layers.Conv2D(2, 1)])
    net.compile("sgd", kr.losses.SSIM(5), metrics=[kr.metrics.SSIM(5, name="ssim")])
    logs = [net.evaluate(x, x, verbose=0, return_dict=True) for x in (X, X[:, :9])]
    assert all(log["loss"] == pytest.approx(1 - log["ssim"], abs=1e-5) for log in logs)
    assert np.isfinite(net.fit(X, Y, verbose=0).history["loss"]).all()


@depth_losses
def test_pixels_without_a_measurement_do_not_count(loss):
    missing = np.zeros(DEPTH.shape, bool)
    missing[:, 1:3], missing[1] = True, True
    missing[1, 0] = False
    expected, slope = evaluate_loss(loss, DEPTH[:1, [0, 3, 4, 5]], OTHER[:1, [0, 3, 4, 5]])
    for absent in (0.0, -1.0, np.nan, np.inf):
        for wild in (OTHER, np.where(missing, np.nan, OTHER)):
            value, gradient = evaluate_loss(loss, np.where(missing, absent, DEPTH), wild)
            np.testing.assert_allclose(value[0], expected[0], rtol=1e-5)
            np.testing.assert_allclose(gradient[0][[0, 3, 4, 5]], slope[0], rtol=1e-4, atol=1e-7)
            np.testing.assert_array_equal(gradient[missing], 0.0)
    value, gradient = evaluate_loss(loss, 0 * DEPTH, OTHER)
    np.testing.assert_array_equal(value, 0.0)
    np.testing.assert_array_equal(gradient, 0.0)
    channel = array(loss(DEPTH[..., None], OTHER[..., None]))
    np.testing.assert_allclose(channel, array(loss(DEPTH, OTHER)), rtol=1e-5)
    with pytest.raises(ValueError, match="Expected a weight for each value or sample"):
        loss(DEPTH, OTHER, sample_weight=np.ones(DEPTH.shape))


def test_a_scale_of_depths_costs_what_its_weight_says():
    for weight in (0.0, 0.5, 1.0):
        loss = kr.losses.ScaleInvariantLog(weight, reduction="none")
        found = array(loss(DEPTH, 3 * DEPTH))
        np.testing.assert_allclose(found, (1 - weight) * np.log(3) ** 2, rtol=1e-4, atol=1e-6)
        logs = kr.losses.ScaleInvariantLog(weight, from_logits=True, reduction="none")
        np.testing.assert_allclose(
            array(logs(DEPTH, np.log(OTHER))), array(loss(DEPTH, OTHER)), rtol=1e-4
        )
    for wrong in (0 * OTHER, -OTHER):
        value, gradient = evaluate_loss(loss, DEPTH, wrong)
        assert np.isfinite(value).all()
        np.testing.assert_array_equal(gradient, 0.0)
    with pytest.raises(
        ValueError, match="`variance_weight` must be a number at least 0 and at most 1"
    ):
        kr.losses.ScaleInvariantLog(1.5)


@pytest.mark.everywhere
def test_the_best_scale_and_shift_are_those_of_least_squares():
    loss = kr.losses.ScaleShiftInvariant(reduction="none")
    expected = []
    for y, p in zip(DEPTH.astype("float64"), OTHER.astype("float64")):
        design = np.stack([p.ravel(), np.ones(p.size)], -1)
        solution = np.linalg.lstsq(design, y.ravel(), rcond=None)[0]
        expected.append(np.mean((design @ solution - y.ravel()) ** 2))
    np.testing.assert_allclose(array(loss(DEPTH, OTHER)), expected, rtol=1e-5)


def test_a_scale_and_a_shift_cost_nothing_and_constants_have_none():
    loss = kr.losses.ScaleShiftInvariant(reduction="none")
    expected = array(loss(DEPTH, OTHER))
    for scale, shift in ((2.0, 30.0), (-0.01, 1.0)):
        np.testing.assert_allclose(array(loss(DEPTH, scale * OTHER + shift)), expected, rtol=1e-3)
        found = array(loss(DEPTH, scale * DEPTH + shift))
        np.testing.assert_allclose(found, 0.0, atol=1e-5)
    for constant in (0.0, 3.0, 1e4, 1e-30):
        value, gradient = evaluate_loss(loss, DEPTH, 0 * OTHER + constant)
        np.testing.assert_allclose(value, DEPTH.var(axis=(1, 2)), rtol=1e-5)
        np.testing.assert_array_equal(gradient, 0.0)
    for batch in (DEPTH[:, :1, :1], DEPTH[:, 0, 0]):  # A pixel each is fitted exactly.
        np.testing.assert_array_equal(array(loss(batch, 2 * batch + 1)), 0.0)


@pytest.mark.everywhere
def test_smoothness_is_that_of_a_loop_and_of_no_scale():
    loss = kr.losses.EdgeAwareSmoothness(reduction="none")
    image, d = X[:, :6, :7], DEPTH
    expected = []
    for i, x in zip(image, d):
        x = x / x.mean()
        rough = [
            np.abs(np.diff(x, axis=axis)) * np.exp(-np.abs(np.diff(i, axis=axis)).mean(-1))
            for axis in (0, 1)
        ]
        expected.append(rough[0].mean() + rough[1].mean())
    np.testing.assert_allclose(array(loss(image, d)), expected, rtol=1e-5)
    np.testing.assert_allclose(array(loss(image, 1e-3 * d[..., None])), expected, rtol=1e-4)


def test_smoothness_of_constant_depths_and_of_other_forms():
    loss = kr.losses.EdgeAwareSmoothness(reduction="none")
    image, d = X[:, :6, :7], DEPTH
    np.testing.assert_allclose(
        array(loss(image[..., 0], d)), array(loss(image[..., :1], d)), rtol=1e-6
    )
    for constant in (0.0, 2.0):
        value, gradient = evaluate_loss(loss, image, 0 * d + constant)
        np.testing.assert_array_equal(value, 0.0)
        np.testing.assert_allclose(gradient, 0.0, atol=1e-7)
    with pytest.raises(ValueError, match="images of floating values"):
        loss((255 * image).astype("uint8"), d)
    for y, p in ((X, d), (image, image), (image[:, :1], d[:, :1])):
        with pytest.raises(ValueError, match="Expected images"):
            loss(y, p)
