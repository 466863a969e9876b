"""Images side by side: structural similarity, and images of one shape and range."""

import math

import keras
from keras import ops

from keras_regularize.numerics import mean
from keras_regularize.targets import align_targets
from keras_regularize.validation import check_integer, check_number


def check_window(window):
    """The side of a window that has a centre."""
    window = check_integer("window", window, minimum=1)
    if window % 2 == 0:
        raise ValueError(f"`window` must be odd. Received: window={window}")
    return window


def check_max_value(max_value):
    """The largest number of images, a finite one."""
    return check_number("max_value", max_value, above=0, below=math.inf)


def read_images(y_true, y_pred, max_value):
    """Images `(batch, height, width, channels)` of one shape in one dtype of at least float32."""
    dtype = keras.backend.standardize_dtype(ops.convert_to_tensor(y_true).dtype)
    if "int" in dtype and max_value <= 1:
        raise ValueError(
            "Images of integers need `max_value`, such as 255, or to be scaled. "
            f"Received: y_true.dtype={dtype} with max_value={max_value}"
        )
    targets, predicted = align_targets(y_true, y_pred)
    if len(predicted.shape) == 3:
        targets, predicted = targets[..., None], predicted[..., None]
    if len(predicted.shape) != 4:
        raise ValueError(
            "Expected images of shape (batch, height, width) or (batch, height, width, channels). "
            f"Received: y_pred.shape={tuple(predicted.shape)}"
        )
    return targets, predicted


def structural_similarity(x, y, window, sigma, max_value):
    """The similarity `(batch,)` of images as by `read_images`: means over all windows within the image."""
    space = x.shape[1:3]
    if any(size is not None and size < window for size in space):
        raise ValueError(
            f"Expected images of at least {window} × {window} pixels, the size of the window. "
            f"Received: {space[0]} × {space[1]}"
        )
    maps = ops.concatenate([x, y, x * x + y * y, x * y], axis=-1)
    maps = _blurred(_blurred(maps, 1, window, sigma), 2, window, sigma)
    mean_x, mean_y, squares, products = ops.split(maps, 4, axis=-1)
    # By their rounding variances of constant images could be negative.
    variances = ops.relu(squares - mean_x * mean_x - mean_y * mean_y)
    product = mean_x * mean_y
    c1, c2 = (0.01 * max_value) ** 2, (0.03 * max_value) ** 2
    luminance = (2.0 * product + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    structure = (2.0 * (products - product) + c2) / (variances + c2)
    return mean(luminance * structure, axis=(1, 2, 3))


def _blurred(x, axis, window, sigma):
    """Gaussian means of the windows along an axis.

    Sums of moved images, because convolutions round to fewer digits on some devices, of which the variances are
    what is left after a subtraction.
    """
    half = window // 2
    weights = [math.exp(-0.5 * (i / sigma) ** 2) for i in range(half + 1)]
    total = weights[0] + 2.0 * sum(weights[1:])
    number = ops.shape(x)[axis] - window + 1

    def moved(i):
        return x[(slice(None),) * axis + (slice(i, i + number),)]

    result = weights[0] / total * moved(half)
    for i in range(1, half + 1):
        result = result + weights[i] / total * (moved(half - i) + moved(half + i))
    return result
