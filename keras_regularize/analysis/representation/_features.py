"""Features and labels as arrays, and classes of them."""

from typing import Any

import keras
import numpy as np


def as_array(x: Any) -> np.ndarray:
    """Anything array-like as a NumPy array."""
    return keras.ops.convert_to_numpy(x) if keras.ops.is_tensor(x) else np.asarray(x)


def features_and_labels(
    features: Any, labels: Any, name: str = ""
) -> tuple[np.ndarray, np.ndarray]:
    """Features `(n, dim)` in float64, further axes joined, and labels `(n,)`."""
    x, y = as_array(features).astype("float64"), as_array(labels)
    if y.ndim == 2:  # A column of ids, or rows of which the largest entry is the label.
        y = y[:, 0] if y.shape[1] == 1 else y.argmax(axis=1)
    if x.ndim < 2 or y.ndim != 1 or len(x) != len(y) or not len(x):
        raise ValueError(
            f"Expected {name}features (n, dim) and labels (n,) of at least one sample. "
            f"Received: shapes {as_array(features).shape} and {as_array(labels).shape}"
        )
    x = x.reshape(len(x), -1)
    if not np.isfinite(x).all():
        raise ValueError(f"Expected finite {name}features. Received NaN or infinite ones")
    return x, y


def unit_rows(x: np.ndarray) -> np.ndarray:
    """Rows divided by their length; a zero row stays."""
    size = np.linalg.norm(x, axis=-1, keepdims=True)
    return x / np.where(size > 0, size, 1.0)


def check_width(x: np.ndarray, test: np.ndarray) -> None:
    """Raises `ValueError` unless both have as many features."""
    if x.shape[1] != test.shape[1]:
        raise ValueError(
            f"Expected as many test features as features. Received: {test.shape[1]} and {x.shape[1]}"
        )
