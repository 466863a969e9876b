"""Corruptions against SciPy, Pillow and the definitions; what holds for all of them; errors."""

import keras
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from keras_regularize.analysis import CORRUPTIONS, corrupt
from keras_regularize.analysis.robustness._blur import sampled
from keras_regularize.analysis.robustness._light import plasma

pytestmark = pytest.mark.once


def images(rows=3, side=32, channels=3):
    noise = np.random.default_rng(0).uniform(size=(rows, side, side, channels))
    smooth = ndimage.gaussian_filter(noise, (0, 1.5, 1.5, 0))
    low, high = smooth.min(), smooth.max()
    return (smooth - low) / (high - low)


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("side", [8, 32, 70])
def test_what_holds_for_all(name, side):
    x = images(side=side).astype("float32")
    before = x.copy()
    for severity in (1, 5):
        found = corrupt(x, name, severity)
        assert found.shape == x.shape and found.dtype == x.dtype
        assert np.isfinite(found).all() and found.min() >= 0.0 and found.max() <= 1.0
        np.testing.assert_array_equal(found, corrupt(x, name, severity))
    assert np.abs(found - x).max() > 1e-3
    np.testing.assert_array_equal(x, before)
    assert corrupt(x[:0], name).shape == (0, side, side, 3)
    integers = np.round(255 * x).astype("uint8")
    found = corrupt(integers, name, 3, bounds=(0, 255))
    assert found.dtype == np.uint8
    # `8-bit` images of a range of their own are the same images.
    of_unit = corrupt(integers / 255.0, name, 3)
    assert np.abs(found - 255 * of_unit).max() <= 0.5 + 1e-6


# The severities of "elastic_transform" trade a shift of all for moves of parts.
@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name != "elastic_transform"])
def test_higher_severities_change_more(name):
    x = images(rows=20)
    distances = [np.abs(corrupt(x, name, severity) - x).mean() for severity in (1, 3, 5)]
    assert distances[0] < distances[1] < distances[2]


def test_noise_has_the_distribution_of_its_definition():
    x = np.full((4, 80, 80, 3), 0.5)
    found = corrupt(x, "gaussian_noise", 1)
    assert found.std() == pytest.approx(0.08, rel=0.03)
    found = corrupt(x, "shot_noise", 1)
    assert found.var() == pytest.approx(0.5 / 60, rel=0.05)
    np.testing.assert_allclose(60 * found, np.round(60 * found), atol=1e-9)
    found = corrupt(x, "impulse_noise", 5)
    assert np.mean(found == 0.0) == pytest.approx(0.135, abs=0.01)
    assert np.mean(found == 1.0) == pytest.approx(0.135, abs=0.01)
    assert np.mean(found == 0.5) == pytest.approx(0.73, abs=0.01)
    assert np.abs(corrupt(x, "gaussian_noise", seed=1) - corrupt(x, "gaussian_noise")).max() > 0


def test_blur_is_that_of_scipy():
    x = images(side=224, rows=1)
    expected = ndimage.gaussian_filter(x, (0, 3, 3, 0), mode="nearest")
    np.testing.assert_allclose(corrupt(x, "gaussian_blur", 3), expected, atol=1e-10)
    line = np.arange(-6, 7)
    disk = (line[:, None] ** 2 + line**2 <= 9).astype("float64")
    near = np.exp(-0.5 * (np.arange(-1, 2) / 0.1) ** 2)
    kernel = ndimage.convolve(disk, np.outer(near, near) / near.sum() ** 2)
    expected = ndimage.convolve(x, (kernel / kernel.sum())[None, :, :, None], mode="nearest")
    np.testing.assert_allclose(corrupt(x, "defocus_blur", 1), expected, atol=1e-10)
    flat = np.full((2, 32, 32, 1), 0.3)
    for name in ("gaussian_blur", "defocus_blur", "motion_blur", "zoom_blur", "pixelate"):
        np.testing.assert_allclose(corrupt(flat, name, 5), flat, atol=1e-12)


def test_images_between_pixels_are_those_of_scipy():
    x = images(rows=2)
    rng = np.random.default_rng(1)
    rows, columns = rng.uniform(-3, 35, (2, 2, 32, 32))
    found = sampled(x, rows, columns)
    for i in range(2):
        for c in range(3):
            expected = ndimage.map_coordinates(
                x[i, ..., c], [rows[i], columns[i]], order=1, mode="nearest"
            )
            np.testing.assert_allclose(found[i, ..., c], expected, atol=1e-12)


def test_light_is_that_of_the_definition():
    x = images()
    mean = x.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(corrupt(x, "contrast", 2), np.clip(mean + 0.5 * (x - mean), 0, 1))
    hsv = np.asarray(Image.fromarray(np.round(255 * x[0]).astype("uint8")).convert("HSV"))
    brighter = np.round(255 * corrupt(x[:1], "brightness", 3)[0]).astype("uint8")
    found = np.asarray(Image.fromarray(brighter).convert("HSV"))
    value = np.minimum(hsv[..., 2] + 0.15 * 255, 255)
    np.testing.assert_allclose(found[..., 2], value, atol=1.01)
    clouds = plasma(3, 20, 2.0, np.random.default_rng(0))
    assert clouds.shape == (3, 32, 32)
    np.testing.assert_allclose(clouds.min(axis=(1, 2)), 0.0)
    np.testing.assert_allclose(clouds.max(axis=(1, 2)), 1.0)
    near = np.abs(np.diff(clouds, axis=1)).mean()
    assert near < 0.5 * np.abs(clouds[:, 16:] - clouds[:, :16]).mean()


def test_pixels_files_and_squares():
    x = images(side=224, rows=2)
    blocks = x.reshape(2, 112, 2, 112, 2, 3).mean(axis=(2, 4)).repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_allclose(corrupt(x, "pixelate", 2), blocks, atol=1e-12)
    for channels in (1, 3):
        found = corrupt(images(channels=channels), "jpeg_compression", 5)
        assert 0.001 < np.abs(found - images(channels=channels)).mean() < 0.1
    found = corrupt(np.zeros((50, 32, 32, 1)), "occlusion", 3)
    assert set(np.unique(found)) == {0.0, 0.5}
    np.testing.assert_array_equal((found > 0).sum(axis=(1, 2, 3)), round(0.4 * 32) ** 2)
    assert (found.max(axis=0)[8:-8, 8:-8] == 0.5).all()


def test_other_shapes_formats_and_bounds():
    x = images()
    flat = corrupt(x.reshape(3, -1), "contrast", 3)
    mean = x.reshape(3, -1).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(flat, mean + 0.4 * (x.reshape(3, -1) - mean))
    low, high = [-1.0, 0.0, 2.0], [1.0, 5.0, 3.0]
    wide = np.asarray(low) + (np.asarray(high) - low) * x
    for name in ("fog", "gaussian_noise", "pixelate"):
        found = corrupt(wide, name, 4, bounds=(low, high))
        expected = np.asarray(low) + (np.asarray(high) - low) * corrupt(x, name, 4)
        np.testing.assert_allclose(found, expected, atol=1e-9)
    before = keras.config.image_data_format()
    try:
        keras.config.set_image_data_format("channels_first")
        found = corrupt(x.transpose(0, 3, 1, 2), "motion_blur", 4)
    finally:
        keras.config.set_image_data_format(before)
    np.testing.assert_allclose(found.transpose(0, 2, 3, 1), corrupt(x, "motion_blur", 4))


def test_what_does_not_fit_is_an_error():
    x = images()
    with pytest.raises(ValueError, match="`name` must be one of 'gaussian_noise'"):
        corrupt(x, "rain")
    for severity in (0, 6, 2.5):
        with pytest.raises(ValueError, match="`severity` must be an integer"):
            corrupt(x, "fog", severity)
    with pytest.raises(ValueError, match="`fog` takes images"):
        corrupt(x[0], "fog")
    with pytest.raises(ValueError, match=r"Expected inputs in \(0.0, 1.0\): pass the `bounds`"):
        corrupt(255 * x, "fog")
    with pytest.raises(ValueError, match="takes 1 or 3 channels"):
        corrupt(images(channels=2), "jpeg_compression")
    with pytest.raises(ValueError, match="`bounds` must be increasing"):
        corrupt(x, "fog", bounds=(1, 0))
