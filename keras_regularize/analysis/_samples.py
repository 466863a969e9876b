"""Data in any form that `fit` takes, as batches of arrays of one size that can be read again and again."""

import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops, tree

from keras_regularize.validation import check_integer


class SampleBatch(NamedTuple):
    """Rows of the data. `counted` is 1.0 for a sample and 0.0 for a row that only fills the batch up."""

    x: Any
    y: Any
    sample_weight: Any
    counted: np.ndarray


class Samples:
    """Batches of `x`, `y` and weights, or of a dataset of such tuples.

    With `fill` the last batch gets rows of its own again until it has the size of the first, for which a program
    was compiled. A generator, which can be read only once, is kept in memory.
    """

    def __init__(self, x, y=None, sample_weight=None, batch_size=32, fill=True):
        check_integer("batch_size", batch_size, minimum=1)
        self._fill = fill
        self._size = None  # Rows of a batch.
        self.in_memory = True
        if x is None:
            raise ValueError("`x` must be arrays or a dataset. Received: x=None")
        if is_dataset(x):
            if y is not None or sample_weight is not None:
                raise ValueError(
                    "`y` and `sample_weight` must be None where `x` is a dataset, which has them in itself. "
                    f"Received: x of type {type(x).__name__}"
                )
            self.in_memory = isinstance(x, types.GeneratorType)
            self._data = list(x) if self.in_memory else x
        else:
            data = tree.map_structure(as_array, (x, y, sample_weight))
            lengths = {np.shape(leaf)[:1] for leaf in tree.flatten(data) if leaf is not None}
            if len(lengths) != 1 or () in lengths:
                raise ValueError(
                    "`x`, `y` and `sample_weight` must have the same number of samples. Received: "
                    + ", ".join(
                        str(length[0]) if length else "a scalar" for length in sorted(lengths)
                    )
                )
            ((size,),) = lengths
            starts = range(0, size, batch_size)
            self._data = [_rows(data, slice(i, min(i + batch_size, size))) for i in starts]
        if self.in_memory and not self._data:
            raise ValueError("There must be at least one sample. Received none.")

    def __iter__(self) -> Iterator[SampleBatch]:
        found = False
        for given in _batches(self._data):
            found = True
            yield self._batch(*keras.utils.unpack_x_y_sample_weight(given))
        if not found:
            raise ValueError("There must be at least one sample. Received none.")

    def __len__(self) -> int:
        """Number of batches, or 0 where it is not known."""
        try:
            return len(self._data)
        except TypeError:
            return 0

    def _batch(self, *data):
        data = tree.map_structure(as_array, data)
        count = len(tree.flatten(data[0])[0])
        self._size = self._size or count
        missing = self._size - count if self._fill else 0
        if missing > 0 and count:
            data = _rows(data, np.arange(self._size) % count)
        counted = np.zeros(count + max(missing, 0) * bool(count), keras.config.floatx())
        counted[:count] = 1
        x, y, sample_weight = data
        return SampleBatch(x, y, sample_weight, counted)


def whole(x: Any, y: Any = None) -> tuple[Any, Any]:
    """`(x, y)` of all samples as structures of arrays; labels must not be missing."""
    batches = list(Samples(x, y, fill=False))
    if any(batch.y is None for batch in batches):
        raise ValueError("Labels are missing: give `y`, or a dataset of pairs `(x, y)`.")
    inputs, labels = (
        tree.map_structure(lambda *parts: np.concatenate(parts), *parts)
        for parts in ([batch.x for batch in batches], [batch.y for batch in batches])
    )
    return inputs, labels


def is_dataset(x: Any) -> bool:
    """Whether `x` gives batches, rather than being arrays or a structure of them."""
    if isinstance(x, keras.utils.PyDataset):
        return True
    arrays = isinstance(x, (Mapping, list, tuple, str)) or hasattr(x, "shape") or hasattr(x, "iloc")
    return isinstance(x, Iterable) and not arrays


def as_array(leaf: Any) -> Any:
    """An array as `fit` hands it on: floating numbers in Keras' default type. `None` stays."""
    if leaf is None:
        return None
    array = ops.convert_to_numpy(leaf) if ops.is_tensor(leaf) else np.asarray(leaf)
    return array.astype(keras.config.floatx()) if array.dtype.kind == "f" else array


def _batches(data):
    if isinstance(data, keras.utils.PyDataset):
        if data.num_batches is None:
            raise ValueError("The dataset must end. Received: one without a number of batches.")
        return (data[i] for i in range(data.num_batches))
    if callable(getattr(data, "cardinality", None)) and int(data.cardinality()) == -1:
        raise ValueError("The dataset must end. Received: one that repeats for ever.")
    return iter(data)


def _rows(data, rows):
    return tree.map_structure(lambda leaf: None if leaf is None else leaf[rows], data)
