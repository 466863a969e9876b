"""What a boosted model reads of its data before it grows."""

import itertools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.labels import align_binary, label_rows
from keras_regularize.targets import align_targets
from keras_regularize.validation import check_number

#: The largest score that a model starts from, where all labels are equal.
_LARGEST_START = 10.0


def starting_score(
    task: str, units: int, x: Any, y: Any, sample_weight: Any, steps: int | None
) -> np.ndarray:
    """The best constant scores `(units,)`."""
    total, count, empty = np.zeros(units), 0.0, True
    if steps is None and _is_endless(x):
        raise ValueError("`GrowNet` needs `steps_per_epoch` for a dataset without an end.")
    for labels, weights in itertools.islice(_labels(x, y, sample_weight), steps):
        if labels is None:
            raise ValueError("`GrowNet` needs labels `y`. Received: y=None")
        if not len(labels):
            continue
        empty = False
        if task == "ranking":
            break
        scores = np.zeros((len(labels), units), "float32")
        if task == "regression":
            rows, _ = align_targets(labels, scores)
        elif units == 1:
            rows, _ = align_binary(labels, scores)
        else:
            rows = label_rows(labels, scores)
        rows = np.asarray(ops.convert_to_numpy(rows), "float64").reshape(-1, units)
        weights = np.ones(len(rows)) if weights is None else np.reshape(weights, (len(rows), -1))
        weights = weights.reshape(len(rows), -1)[:, :1]
        total += np.where(weights > 0, weights * rows, 0.0).sum(axis=0)
        count += weights.sum()
    if empty:
        raise ValueError("`GrowNet` needs at least one sample. Received: data without any")
    mean = total / max(count, 1e-30)
    if task == "regression":
        return mean
    if task == "ranking" or not count:
        return np.zeros(units)
    with np.errstate(divide="ignore"):
        start = np.log(mean) - (np.log(1 - mean) if units == 1 else 0.0)
    return np.clip(start, -_LARGEST_START, _LARGEST_START)


def split(x: Any, y: Any, sample_weight: Any, share: float) -> Any:
    """Training and validation data, the last rows, as Keras takes them."""
    check_number("validation_split", share, above=0, below=1)
    data = x, y, sample_weight
    if not all(part is None or hasattr(part, "shape") for part in data):
        raise ValueError(f"`validation_split` needs arrays. Received: x of type {type(x).__name__}")
    cut = int(len(x) * (1 - share))
    held_out = tuple(None if part is None else part[cut:] for part in data)
    return *(None if part is None else part[:cut] for part in data), held_out


def _labels(x: Any, y: Any, sample_weight: Any) -> Iterator[tuple[Any, Any]]:
    """Labels and weights of the batches of data."""
    if y is not None or hasattr(x, "shape"):
        batches: Any = [(x, y, sample_weight)]
    else:
        batches = _indexed(x) if isinstance(x, keras.utils.PyDataset) else x
    for batch in batches:
        _, labels, weights = keras.utils.unpack_x_y_sample_weight(batch)
        yield _array(labels), _array(weights)


def _is_endless(x: Any) -> bool:
    if isinstance(x, keras.utils.PyDataset):
        return x.num_batches is None
    return callable(getattr(x, "cardinality", None)) and int(x.cardinality()) == -1


def _indexed(dataset: Any) -> Iterator[Any]:
    """The batches of a `PyDataset`, which as an iterator has no end."""
    count = dataset.num_batches
    return (dataset[i] for i in (itertools.count() if count is None else range(count)))


def _array(values: Any) -> Any:
    return None if values is None else ops.convert_to_numpy(values)
