"""Training batches, each with batches of other data beside it."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops, tree


class Arrays:
    """Arrays as batches, passed through again and again in a new order each time, or in theirs."""

    def __init__(
        self, data: tuple[Any, ...], batch_size: int, order: Callable, wrapped: bool = False
    ):
        """With `wrapped` the last batch of a pass is as full as the others, with samples of its beginning."""
        self.data = tree.map_structure(_array, data)
        sizes = {len(leaf) for leaf in tree.flatten(self.data)}
        if len(sizes) != 1 or 0 in sizes:
            raise ValueError(
                f"Expected arrays with the same number of samples, at least one. Received: {sorted(sizes)} samples"
            )
        self.size, self.batch_size, self.order, self.wrapped = *sizes, batch_size, order, wrapped

    def __len__(self):
        return -(-self.size // self.batch_size)

    def __iter__(self):
        order = self.order(self.size)
        if self.wrapped:
            order = np.resize(order, len(self) * self.batch_size)
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            yield tree.map_structure(lambda leaf, rows=rows: leaf[rows], self.data)


class _Dataset:
    """The batches of a `PyDataset`, the order of which is its own, where it has no end, or a new one each time."""

    def __init__(self, dataset, order):
        self.dataset, self.order = dataset, order

    def __len__(self):
        if self.dataset.num_batches is None:
            raise TypeError("A dataset without an end has no length.")
        return self.dataset.num_batches

    def __iter__(self):
        count = self.dataset.num_batches
        self.dataset.on_epoch_begin()
        for i in itertools.count() if count is None else self.order(count):
            yield self.dataset[int(i)]
        self.dataset.on_epoch_end()


def batches(data: Any, order: Callable) -> Iterable[Any]:
    """What gives the batches of a dataset each time that it is passed through."""
    return _Dataset(data, order) if isinstance(data, keras.utils.PyDataset) else data


def paired(
    training: Iterable[Any], others: Iterable[Any], count: int, join: Callable
) -> Iterator[Any]:
    """`join(batch, count of the other batches)` without end; the other batches begin anew with each pass."""
    # Under a `tf.distribute` strategy Keras drops some batches of any generator at the start of `fit`.
    while True:
        others_left = _endless(others)
        empty = True
        for batch in training:
            empty = False
            parts = tuple(_as_batch(next(others_left)) for _ in range(count))
            yield join(_as_batch(batch), parts)
        if empty:
            return


def paired_with_validation(
    x: Any, y: Any, options: dict[str, Any], count: int, join: Callable
) -> tuple[Iterator[Any], dict[str, Any]]:
    """`paired` batches of the data and validation data that `fit` is given, and what is left of its arguments."""
    options = dict(options)
    size = options.pop("batch_size", None) or 32
    sample_weight = options.pop("sample_weight", None)
    validation = options.get("validation_data")
    split = options.pop("validation_split", 0.0) or 0.0
    drawn = np.random.default_rng(np.random.randint(2**31))
    order = drawn.permutation if options.get("shuffle", True) else np.arange
    options["shuffle"] = False
    if y is not None:
        whole = keras.utils.pack_x_y_sample_weight(x, y, sample_weight)
        rows = Arrays(whole, size, order)
        training: Any = rows
        if validation is None and split:
            cut = int(rows.size * (1.0 - split))
            first, validation = (
                tree.map_structure(lambda leaf, part=part: leaf[part], rows.data)
                for part in (slice(None, cut), slice(cut, None))
            )
            training, options["validation_data"] = Arrays(first, size, order), validation
    else:
        training = batches(x, order)
    if validation is None:
        raise ValueError(
            "`SelfTuningNetwork` tunes its hyperparameters by validation data: give `fit` "
            "`validation_data=…`, or arrays and a `validation_split`."
        )
    if isinstance(validation, (list, tuple)):
        others: Any = Arrays(tuple(validation), size, order, wrapped=True)
        options.setdefault("validation_batch_size", size)
    else:
        others = batches(validation, order)
    if options.get("steps_per_epoch") is None:
        try:
            options["steps_per_epoch"] = len(training)
        except TypeError as error:
            raise ValueError(
                "`SelfTuningNetwork` needs `steps_per_epoch` for data of unknown size."
            ) from error
    return paired(training, others, count, join), options


def _endless(data):
    while True:
        empty = True
        for batch in data:
            empty = False
            yield batch
        if empty:
            raise ValueError("Expected validation data of at least one batch. Received none")


def _as_batch(batch):
    batch = tuple(batch) if isinstance(batch, (list, tuple)) else (batch,)
    batch = tree.map_structure(lambda leaf: None if leaf is None else _array(leaf), batch)
    # Without what is not there: TensorFlow has no batches with nothing in them.
    return tuple(part for part in batch if part is not None)


def _array(leaf):
    return ops.convert_to_numpy(leaf) if ops.is_tensor(leaf) else np.asarray(leaf)
