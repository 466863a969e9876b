"""A look at the data before Keras traces a step."""

import itertools
import types
from collections.abc import Iterable, Mapping

import keras
from keras import tree

from keras_regularize.autodiff import backend


def seen(x, y, values):
    """`(x, y)` to look at, `(None, None)` if there is nothing, and the data to go on with.

    With `values` the first batch of a dataset, else its specification.
    """
    first = None
    if values:
        first, x = peek(x)
    if first is None:
        return *specification(x, y), x
    return *keras.utils.unpack_x_y_sample_weight(first)[:2], x


def refuse_lost_weights(y, sample_weight):
    """Raises for weights of arrays without labels, which Keras leaves out without a word."""
    if y is None and sample_weight is not None:
        raise ValueError(
            "Keras takes no `sample_weight` of arrays without labels: give the weights with the batches "
            "`(x, None, sample_weight)` of a generator, a `tf.data.Dataset` or, except on TensorFlow, a "
            "`keras.utils.PyDataset`. "
            f"Received: y=None, sample_weight of type {type(sample_weight).__name__}"
        )


def specification(x, y):
    """`(x, y)` with shapes and dtypes to check; `(None, None)` if that needs reading the data."""
    spec = getattr(x, "element_spec", None)
    if spec is not None:
        return keras.utils.unpack_x_y_sample_weight(spec)[:2]
    leaves = tree.flatten(x)
    if leaves and all(leaf is None or hasattr(leaf, "dtype") for leaf in leaves):
        return x, y
    return None, None


def peek(x):
    """`(first, x)`: the first batch of a dataset, or `None` where there is none, and the dataset to go on with.

    Its batches are all still to come: a generator is replaced by one that begins with the batch taken. (The
    iterator made here counts where a pipeline shuffles anew for each.)
    """
    if isinstance(x, types.GeneratorType):
        taken = list(itertools.islice(x, 1))
        return (taken[0] if taken else None), _followed(taken, x)
    if isinstance(x, keras.utils.PyDataset):
        return (None if x.num_batches == 0 else x[0]), x
    if (
        x is None
        or hasattr(x, "shape")
        or not isinstance(x, Iterable)
        or isinstance(x, (Mapping, list, tuple, str))
    ):
        return None, x
    states = [(state, state.value) for state in backend.random_states()]
    first = next(iter(x), None)
    for state, value in states:  # A `DataLoader` draws its order from torch's global generator.
        state.assign(value)
    return first, x


def _followed(taken, rest):
    yield from taken
    yield from rest


def is_floating(leaf):
    """Whether an array, tensor or specification has a floating dtype."""
    dtype = leaf.dtype.name if hasattr(leaf.dtype, "name") else leaf.dtype
    return "float" in str(dtype)
