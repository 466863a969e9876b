"""Pruning while training: the smallest weights, as many as the validation tolerates."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.callbacks.fitting import find_masks
from keras_regularize.optimizers import IrrelevantWeightDecay
from keras_regularize.optimizers.wrapper import chain
from keras_regularize.utils.variables import NORMALIZATION, AllBut, check_where, chooser
from keras_regularize.validation import check_choice, check_integer, check_number


def _default(variable):
    return len(variable.shape) >= 1 and AllBut(NORMALIZATION)(variable)


class _Pruning(keras.callbacks.Callback):
    """Prunes the smallest weights of a model that is trained by `Masked`."""

    def __init__(self, where: Any):
        super().__init__()
        self.where = check_where(where)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        self._optimizer = find_masks(self)

    def sparsity(self) -> float:
        """The pruned part of the weights that may be pruned."""
        masks = self._prunable()[1]
        return 1.0 - sum(int(m.sum()) for m in masks) / sum(m.size for m in masks)

    def _prunable(self):
        """The variables that may be pruned, and their masks."""
        chosen, masks = chooser(self.where, _default), self._optimizer.get_masks()
        pairs = [(v, m) for v, m in zip(self.model.trainable_variables, masks) if chosen(v)]
        if not pairs:
            raise ValueError(
                f"`where` chooses no trainable variable. Received: where={self.where!r}; the model's variables "
                f"are called {sorted({v.name for v in self.model.trainable_variables})}."
            )
        return [v for v, _ in pairs], [m for _, m in pairs]

    def _set(self, variables, masks):
        new = {id(v): mask for v, mask in zip(variables, masks)}
        self._optimizer.set_masks([new.get(id(v)) for v in self.model.trainable_variables])


def _smallest(values, masks):
    """How many weights are left, and the masks without so and so many of them, smallest first, by that number."""
    sizes = np.concatenate([np.where(m, np.abs(w), -1.0).ravel() for w, m in zip(values, masks)])
    order, gone = np.argsort(sizes, kind="stable"), np.sum(sizes < 0)
    ends = np.cumsum([m.size for m in masks])[:-1]

    def kept(count):
        flat = np.ones(len(sizes), bool)
        flat[order[: gone + count]] = False
        return [part.reshape(m.shape) for part, m in zip(np.split(flat, ends), masks)]

    return len(sizes) - gone, kept


class ThresholdPruning(_Pruning):
    r"""Prunes whenever training stands still, as much as a relative rise of the validation loss allows.

    When the validation loss has not fallen for `patience` epochs, the best weights since the last pruning come
    back, and of all weights those with $|w| \le T$ become zero for good, with the largest threshold $T$ for
    which

    $$L_\text{val}(\text{pruned}) \le (1 + \tau)\,L_\text{val}(\text{best}).$$

    Training goes on with what is left, and ends once a search finds nothing more to prune. This is the pruning
    of LOBSTER, but it helps any training that drives weights to zero. The authors bisect the threshold itself;
    here the number of pruned weights is bisected, to a thousandth of what is left, which does not depend on
    how magnitudes are spread. The epochs' logs get `sparsity`.

    The model must be compiled with `kr.optimizers.LOBSTER` or, for any other optimizer,
    `kr.optimizers.Masked`, possibly inside further wrappers.

    Args:
        validation_data: `(x, y)`, `(x, y, sample_weight)`, or a data set that can be read again.
        tolerance: $\tau \ge 0$, the relative rise of the loss that one pruning may cost.
        patience: Epochs without a lower validation loss before pruning, at least 1.
        where: Which variables are pruned: the name of a variable, a list of names of variables or of layers on
            their path, or a function of the variable such as `kr.utils.AllBut`; `None` for all but those that
            normalization layers learn.

    Raises:
        ValueError: If a number is out of range; when training begins, if the optimizer keeps no masks.

    Cost: a validation pass per epoch and about ten per pruning.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    x = np.random.default_rng(0).normal(size=(32, 4))
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(kr.optimizers.LOBSTER(keras.optimizers.SGD(0.1), 1e-2), "mse")
    pruning = kr.callbacks.ThresholdPruning((x, x[:, :1]), tolerance=0.05, patience=2)
    model.fit(x, x[:, :1], epochs=10, callbacks=[pruning], verbose=0)
    ```

    Reference: Enzo Tartaglione, Andrea Bragagnolo, Attilio Fiandrotti and Marco Grangetto, *LOss-Based
    SensiTivity rEgulaRization: towards deep sparse neural networks*, Neural Networks 2022, arXiv:2011.09905.
    """

    _best: float
    _weights: list[np.ndarray] | None
    _wait: int

    def __init__(
        self,
        validation_data: Any,
        tolerance: float = 0.05,
        patience: int = 20,
        where: str | Sequence[str] | Callable[[keras.Variable], bool] | None = None,
    ):
        super().__init__(where)
        self.validation_data = validation_data
        self.tolerance = check_number("tolerance", tolerance, minimum=0)
        self.patience = check_integer("patience", patience, minimum=1)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        super().on_train_begin(logs)
        self._forget()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        loss = self.loss()
        self._wait += 1
        if loss < self._best:
            self._best, self._weights, self._wait = loss, self.model.get_weights(), 0
        if self._wait >= self.patience and self._weights is not None:
            self.model.set_weights(self._weights)
            if self.prune((1 + self.tolerance) * self._best) == 0:
                self.model.stop_training = True
            self._forget()
        if logs is not None:
            logs["sparsity"] = self.sparsity()

    def loss(self) -> float:
        """The validation loss of the model as it is."""
        data, options = self.validation_data, {"verbose": 0, "return_dict": True}
        if isinstance(data, (tuple, list)):
            x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
            return self.model.evaluate(x, y, sample_weight=weight, **options)["loss"]
        return self.model.evaluate(data, **options)["loss"]

    def prune(self, bound: float) -> int:
        """Prunes the smallest weights, as many as keep the loss at most `bound`; returns how many."""
        variables, masks = self._prunable()
        values = [np.array(ops.convert_to_numpy(v), "float32") for v in variables]
        left, kept = _smallest(values, masks)

        def allowed(count):
            for variable, value, mask in zip(variables, values, kept(count)):
                variable.assign(np.where(mask, value, 0))
            return self.loss() <= bound  # False for a NaN.

        fine, too_many = 0, left + 1
        while too_many - fine > max(1, left // 1000):
            middle = (fine + too_many) // 2
            if allowed(middle):
                fine = middle
            else:
                too_many = middle
        for variable, value in zip(variables, values):
            variable.assign(value)
        self._set(variables, kept(fine))
        return int(fine)

    def _forget(self):
        self._best, self._weights, self._wait = float("inf"), None, 0


class IterativePruning(_Pruning):
    r"""Prunes a fixed part of the weights after every epoch whose validation keeps a bound.

    Whenever the monitored value is at least `bound` (at most, for a loss), the 10 % of the weights that are
    smallest in the whole network, of those still there, become zero for good. Below the bound training goes on
    until the network has recovered. So sparsity grows by itself until the network is as small as it can be at
    that accuracy: after $k$ prunings a part of $0.9^k$ is left. There is no search and no further pass.

    Pair it with an optimizer that drives weights to zero, such as
    `kr.optimizers.IrrelevantWeightDecay(kr.optimizers.Masked(…))`, whose schedule of the factor begins anew at
    each pruning. After the last epoch the network may just have been pruned: end with a few epochs of `fit`
    without the callback, in which pruned weights stay zero. The epochs' logs get `sparsity`.

    Args:
        bound: The value that the monitored one must reach, inclusive.
        monitor: Name in the epochs' logs, usually a metric on the `validation_data` of `fit`. Epochs without a
            validation (`validation_freq`) are passed over.
        mode: `"max"` if more is better, `"min"` if less is; `"auto"` takes `"min"` for a name that contains
            "loss" or "error", `"max"` for others.
        fraction: The part of the remaining weights that one pruning removes, above 0 and below 1; one weight at
            least.
        where: Which variables are pruned: the name of a variable, a list of names of variables or of layers on
            their path, or a function of the variable such as `kr.utils.AllBut`; `None` for all but those that
            normalization layers learn.

    Raises:
        ValueError: If an argument is out of range; when training begins, if the optimizer keeps no masks; at
            the end of an epoch, if its logs have no such value.

    Cost: a sort of the weights per pruning.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    x = np.random.default_rng(0).normal(size=(32, 4))
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    optimizer = kr.optimizers.IrrelevantWeightDecay(kr.optimizers.Masked("adam"), factor=1e-3)
    model.compile(optimizer, "mse")
    pruning = kr.callbacks.IterativePruning(0.5, monitor="val_loss")
    data = x, x[:, :1]
    model.fit(*data, validation_data=data, epochs=4, callbacks=[pruning], verbose=0)
    ```

    Reference: Giovanni Bonetta, Matteo Ribero and Rossella Cancelliere, *Regularization-based Pruning of
    Irrelevant Weights in Deep Neural Architectures*, Applied Intelligence 2022, arXiv:2204.04977.
    """

    def __init__(
        self,
        bound: float,
        monitor: str = "val_accuracy",
        mode: str = "auto",
        fraction: float = 0.1,
        where: str | Sequence[str] | Callable[[keras.Variable], bool] | None = None,
    ):
        super().__init__(where)
        self.bound = check_number("bound", bound)
        self.monitor = monitor
        self.mode = check_choice("mode", mode, ("auto", "max", "min"))
        if mode == "auto":
            self.mode = "min" if "loss" in monitor or "error" in monitor else "max"
        self.fraction = check_number("fraction", fraction, above=0, below=1)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        super().on_train_begin(logs)
        self._seen = False

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        logs = {} if logs is None else logs
        value = logs.get(self.monitor)
        if value is not None:
            self._seen = True
            if value >= self.bound if self.mode == "max" else value <= self.bound:
                self.prune()
        elif not self.monitor.startswith("val_") or any(name.startswith("val_") for name in logs):
            raise ValueError(
                f"`IterativePruning` monitors a value that is not in the logs of the epoch: {sorted(logs)}. "
                f"Received: monitor={self.monitor!r}"
            )
        logs["sparsity"] = self.sparsity()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        if not self._seen:
            warnings.warn(
                f"`IterativePruning` never saw {self.monitor!r} and has pruned nothing: pass "
                "`validation_data` to `fit`."
            )

    def prune(self) -> int:
        """Prunes the smallest weights, `fraction` of those left, and at least one; returns how many."""
        variables, masks = self._prunable()
        values = [np.array(ops.convert_to_numpy(v), "float32") for v in variables]
        left, kept = _smallest(values, masks)
        count = min(left, max(1, int(self.fraction * left)))
        self._set(variables, kept(count))
        for optimizer in chain(self.model.optimizer):
            if isinstance(optimizer, IrrelevantWeightDecay):
                optimizer.restart()
        return int(count)
