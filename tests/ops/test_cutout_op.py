"""ops.cutout against a loop over pixels."""

import numpy as np
import pytest
from keras import ops

from keras_regularize import autodiff
from keras_regularize.ops import cutout


def cut(images, centers, length, **kwargs):
    images = ops.convert_to_tensor(images)
    return ops.convert_to_numpy(cutout(images, np.asarray(centers, "int32"), length, **kwargs))


def oracle(images, centers, length, fill=0):
    out = np.array(images)
    for image, holes in zip(out, centers):
        for row, column in holes:
            for i in range(row - length // 2, row + length // 2):
                for j in range(column - length // 2, column + length // 2):
                    if 0 <= i < image.shape[0] and 0 <= j < image.shape[1]:
                        image[i, j, :] = fill
    return out


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 5, 20])
@pytest.mark.parametrize("holes", [1, 3])
def test_equals_a_loop_over_pixels(length, holes):
    rng = np.random.default_rng(0)
    images = rng.uniform(0.1, 1.0, size=(5, 7, 6, 2)).astype("float32")
    centers = np.stack([rng.integers(0, 7, (5, holes)), rng.integers(0, 6, (5, holes))], -1)
    np.testing.assert_array_equal(cut(images, centers, length), oracle(images, centers, length))


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "float32"])
def test_dtype_is_kept(dtype):
    images = np.full((2, 6, 6, 1), 9, dtype)
    out = cut(images, [[[3, 3]], [[0, 0]]], 4, fill_value=2.0)
    assert out.dtype == dtype
    np.testing.assert_array_equal(out, oracle(images, [[[3, 3]], [[0, 0]]], 4, fill=2))


def test_counts():
    images = np.ones((3, 8, 8, 1), "float32")
    removed = (cut(images, [[[4, 4]], [[0, 0]], [[7, 7]]], 4) == 0).sum(axis=(1, 2, 3))
    # Inside L²; at the corners (L/2)² and (L/2 + 1)²: the square is half open.
    assert removed.tolist() == [16, 4, 9]


def test_channels_first_is_the_transpose():
    images = np.random.default_rng(1).uniform(0.1, 1, (2, 5, 6, 3)).astype("float32")
    centers = [[[1, 5]], [[4, 2]]]
    first = cut(images.transpose(0, 3, 1, 2), centers, 4, data_format="channels_first")
    np.testing.assert_array_equal(first.transpose(0, 2, 3, 1), cut(images, centers, 4))


def test_one_image():
    image = np.ones((5, 6, 3), "float32")
    np.testing.assert_array_equal(
        cut(image, [[1, 2], [4, 4]], 2), cut(image[None], [[[1, 2], [4, 4]]], 2)[0]
    )


def test_empty_batch():
    assert cut(np.ones((0, 4, 4, 1), "float32"), np.zeros((0, 1, 2)), 2).shape == (0, 4, 4, 1)


def test_gradient_passes_outside_the_holes():
    images = ops.convert_to_tensor(np.ones((1, 4, 4, 1), "float32"))
    centers = np.array([[[1, 1]]])
    grad = autodiff.grad(lambda x: ops.sum(cutout(x, centers, 2)))(images)
    expected = np.ones((4, 4))
    expected[:2, :2] = 0
    np.testing.assert_array_equal(ops.convert_to_numpy(grad)[0, :, :, 0], expected)


@pytest.mark.parametrize(
    "shape, centers, arguments, message",
    [
        ((4, 4), (1, 2), {}, "Expected images"),
        ((2, 4, 4, 1), (1, 2), {}, "Expected images"),
        ((2, 4, 4, 1), (2, 1, 3), {}, "Expected images"),
        ((2, 4, 4, 1), (2, 1, 2), {"length": -1}, "`length` must be an integer of at least 0"),
        ((2, 4, 4, 1), (2, 1, 2), {"length": 1.5}, "`length` must be an integer"),
        ((2, 4, 4, 1), (2, 1, 2), {"data_format": "last"}, "`data_format` must be one of"),
    ],
)
def test_bad_arguments(shape, centers, arguments, message):
    with pytest.raises(ValueError, match=message):
        cutout(np.ones(shape, "float32"), np.zeros(centers, "int32"), **{"length": 2, **arguments})
