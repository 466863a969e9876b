"""Stochastic weight averaging: the mean of the weights along the end of a training."""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
from keras import layers, ops, tree

from keras_regularize.autodiff import backend
from keras_regularize.callbacks.fitting import check_rate, without_wrappers
from keras_regularize.utils.variables import every_layer
from keras_regularize.validation import check_integer, check_number


class StochasticWeightAveraging(keras.callbacks.Callback):
    r"""Ends the training with the mean of the weights of its last epochs, in the middle of a flat minimum.

    After epoch `start`, and then every `period` epochs,

    $$\bar w \leftarrow \frac{n\,\bar w + w}{n + 1}, \qquad n \leftarrow n + 1,$$

    and when `fit` ends the model gets $\bar w$. A constant, rather large learning rate keeps $w$ moving around
    the minimum whose middle is looked for: give it as `learning_rate`, or a cyclic schedule whose cycle is
    `period` epochs long. Unlike `use_ema=` of Keras' optimizers all averaged epochs count alike.

    The statistics of batch normalization belong to other weights than $\bar w$. They are estimated anew from
    `data`, in passes as in training, as the mean over its batches. Dropout acts in these passes, as in the
    authors' code. Layers that are frozen keep their statistics.

    The callback works on what is trained, so train-step wrappers change nothing. `restore()` gives the model the
    weights that were trained back, to train on. `get_state()` and `set_state()` carry the mean into a training
    that goes on in another process, from `initial_epoch` above 0; a `fit` from epoch 0 begins anew.

    Args:
        start: Epochs before the first weights are taken, at least 0. The paper takes 75 % of the usual training.
        period: Epochs from one average to the next, at least 1.
        learning_rate: The learning rate from epoch `start` on, or None to leave it.
        data: Training inputs for the statistics of batch normalization: arrays, or batches (a data set, whose
            elements may be `(x, y)` or `(x, y, sample_weight)`). Needed only if the model has such layers.
        batch_size: Samples in a batch of `data` if it is arrays.

    Raises:
        ValueError: If an argument is out of range; when training begins, if there is batch normalization and no
            `data`, or the rate is to be set and is a schedule.

    Cost: a copy of the weights in host memory, and at the end a forward pass over `data`.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    x = np.random.default_rng(0).normal(size=(32, 4))
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8)])
    model.add(keras.layers.BatchNormalization())
    model.add(keras.layers.Dense(1))
    model.compile(keras.optimizers.SGD(0.1), "mse")
    averaging = kr.callbacks.StochasticWeightAveraging(start=6, learning_rate=0.05, data=x)
    model.fit(x, x[:, :1], epochs=10, callbacks=[averaging], verbose=0)
    ```

    Reference: Pavel Izmailov, Dmitrii Podoprikhin, Timur Garipov, Dmitry Vetrov and Andrew Gordon Wilson,
    *Averaging Weights Leads to Wider Optima and Better Generalization*, UAI 2018, arXiv:1803.05407.
    """

    def __init__(
        self,
        start: int,
        period: int = 1,
        learning_rate: float | None = None,
        data: Any = None,
        batch_size: int = 128,
    ):
        super().__init__()
        self.start = check_integer("start", start, minimum=0)
        self.period = check_integer("period", period, minimum=1)
        self.learning_rate = check_number("learning_rate", learning_rate, minimum=0, optional=True)
        self.data = data
        self.batch_size = check_integer("batch_size", batch_size, minimum=1)
        self.count = 0
        self._average: list[np.ndarray] | None = None
        self._trained: list[tuple[keras.Variable, np.ndarray]] | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        if self.learning_rate is not None:
            check_rate(self, self.model.optimizer)
        self._trained = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        if epoch == 0:
            self.count, self._average = 0, None
        if self.data is None and (found := self._normalizations()):
            raise ValueError(
                "`StochasticWeightAveraging` needs `data`, inputs from which it estimates the statistics of "
                f"batch normalization in {[layer.name for layer in found]}. Received: data=None"
            )
        if self.learning_rate is not None and epoch >= self.start:
            self.model.optimizer.learning_rate = self.learning_rate

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        done = epoch + 1 - self.start
        if done < 1 or (done - 1) % self.period:
            return
        weights = [_array(v) for v in self.model.trainable_variables]
        self.count += 1
        if self._average is None:
            self._average = weights
        else:
            for mean, w in zip(self._average, weights, strict=True):
                mean += (w - mean) / self.count

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        if self._average is None:
            warnings.warn(
                f"`StochasticWeightAveraging` starts after epoch {self.start} and has averaged nothing."
            )
            return
        layers = self._normalizations()
        statistics = [v for layer in layers for v in layer.non_trainable_variables]
        changing = [*self.model.trainable_variables, *statistics]
        self._trained = [(v, np.array(ops.convert_to_numpy(v))) for v in changing]
        for variable, mean in zip(self.model.trainable_variables, self._average):
            variable.assign(ops.cast(mean, variable.dtype))
        if layers:
            self._estimate(layers, statistics)

    def restore(self) -> None:
        """Gives the model the weights and statistics back with which the training ended."""
        if self._trained is None:
            raise ValueError(
                "There is nothing to restore: no `fit` has ended with averaged weights."
            )
        for variable, value in self._trained:
            variable.assign(value)
        self._trained = None

    def get_state(self) -> dict[str, Any]:
        """The mean so far: a dictionary of the number of averaged epochs and a list of arrays."""
        average = None if self._average is None else [w.copy() for w in self._average]
        return {"count": self.count, "average": average}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `get_state` returned."""
        self.count = int(state["count"])
        average = state["average"]
        self._average = None if average is None else [np.array(w) for w in average]

    def _normalizations(self):
        """The layers whose statistics move in training."""
        found = every_layer(without_wrappers(self.model))
        return [v for v in found if isinstance(v, layers.BatchNormalization) and v.trainable]

    def _estimate(self, layers, statistics):
        model = without_wrappers(self.model)
        # What else moves in a training pass, such as random numbers, is as it was afterwards.
        others = [v for v in model.non_trainable_variables if all(v is not s for s in statistics)]
        before = [np.array(ops.convert_to_numpy(v)) for v in others]
        momenta, seen = [layer.momentum for layer in layers], 0
        try:
            for x in self._batches():
                size = len(tree.flatten(x)[0])
                for layer in layers:
                    layer.momentum = seen / (seen + size)
                with backend.no_recording():
                    model(x, training=True)
                seen += size
        finally:
            for layer, momentum in zip(layers, momenta):
                layer.momentum = momentum
            for variable, value in zip(others, before):
                variable.assign(value)

    def _batches(self):
        leaves = tree.flatten(self.data)
        if all(hasattr(leaf, "shape") and hasattr(leaf, "dtype") for leaf in leaves):
            for start in range(0, len(leaves[0]), self.batch_size):
                stop = start + self.batch_size
                yield tree.map_structure(lambda a, s=start, e=stop: _tensor(a[s:e]), self.data)
        else:
            for batch in _iterated(self.data):
                if isinstance(batch, (tuple, list)):
                    batch = keras.utils.unpack_x_y_sample_weight(tuple(batch))[0]
                yield tree.map_structure(_tensor, batch)


def _array(variable):
    """The value as an array of its own, wide enough for sums."""
    value = ops.convert_to_numpy(ops.cast(ops.convert_to_tensor(variable), "float32"))
    return np.array(value, "float64" if variable.dtype == "float64" else "float32")


def _tensor(x):
    return x if ops.is_tensor(x) else ops.convert_to_tensor(np.asarray(x))


def _iterated(data: Any) -> Iterable:
    """The batches of an epoch of a data set; a `PyDataset` is indexed and has no end as an iterator."""
    if isinstance(data, keras.utils.PyDataset):
        if data.num_batches is None:
            raise ValueError("The dataset must end. Received: one without a number of batches.")
        return (data[i] for i in range(data.num_batches))
    return iter(data)
