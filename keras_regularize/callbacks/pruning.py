"""Pruning while training: the largest magnitude threshold that the validation loss tolerates."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize._validation import check_integer, check_number
from keras_regularize.callbacks._fit import find_masks
from keras_regularize.optimizers._wrapper import NORMALIZATION, is_named


class _ToleratedPruning(keras.callbacks.Callback):
    """Prunes the smallest weights of a model that is trained by `Masked`, as many as a loss allows."""

    def __init__(self, validation_data, tolerance, rank_filter):
        super().__init__()
        check_number("tolerance", tolerance, minimum=0)
        if rank_filter is not None:
            check_integer("rank_filter", rank_filter, minimum=1)
        self.validation_data = validation_data
        self.tolerance = tolerance
        self.rank_filter = rank_filter

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        self._optimizer = find_masks(self)

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
        magnitudes = np.sort(np.concatenate([np.abs(w[m]) for w, m in zip(values, masks)]))

        def kept(count):
            if count == 0:
                return masks
            return [m & (np.abs(w) > magnitudes[count - 1]) for w, m in zip(values, masks)]

        def allowed(count):
            for variable, value, mask in zip(variables, values, kept(count)):
                variable.assign(np.where(mask, value, 0))
            return self.loss() <= bound  # False for a NaN.

        fine, too_many = 0, len(magnitudes) + 1
        while too_many - fine > max(1, len(magnitudes) // 1000):
            middle = (fine + too_many) // 2
            if allowed(middle):
                fine = middle
            else:
                too_many = middle
        for variable, value in zip(variables, values):
            variable.assign(value)
        new = {id(v): mask for v, mask in zip(variables, kept(fine))}
        self._optimizer.set_masks([new.get(id(v)) for v in self.model.trainable_variables])
        return sum(int(m.sum()) for m in masks) - sum(int(m.sum()) for m in new.values())

    def sparsity(self) -> float:
        """The pruned part of the weights that may be pruned."""
        masks = self._prunable()[1]
        return 1.0 - sum(int(m.sum()) for m in masks) / sum(m.size for m in masks)

    def _prunable(self):
        masks = self._optimizer.get_masks()
        pairs = [
            (v, m)
            for v, m in zip(self.model.trainable_variables, masks)
            if len(v.shape) >= (self.rank_filter or 1) and not is_named(v, NORMALIZATION)
        ]
        return [v for v, _ in pairs], [m for _, m in pairs]


class ThresholdPruning(_ToleratedPruning):
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
        rank_filter: Prune only variables of at least this rank (2: kernels, no biases); None for all but
            those of normalization layers.

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
    SensiTivity rEgulaRization: towards deep sparse neural networks*, 2022, Neural Networks, arXiv:2011.09905.
    """

    def __init__(
        self,
        validation_data: Any,
        tolerance: float = 0.05,
        patience: int = 20,
        rank_filter: int | None = None,
    ):
        check_integer("patience", patience, minimum=1)
        super().__init__(validation_data, tolerance, rank_filter)
        self.patience = patience

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

    def _forget(self):
        self._best, self._weights, self._wait = float("inf"), None, 0


class IterativePruning(_ToleratedPruning):
    r"""Prunes every few epochs, as long as the validation loss stays below one fixed bound.

    At the end of epoch `start` the loss of the dense model sets the bound

    $$B = (1 + \tau)\,L_\text{val}(\text{dense}).$$

    Then and every `every` epochs, if the present loss is at most $B$, all weights with $|w| \le T$ become zero
    for good, with the largest threshold $T$ that keeps the loss at most $B$. The epochs between let the rest
    recover, and the bound holds for the whole training, so sparsity grows until the network is as small as it
    can be at that loss. Pair it with an optimizer that drives weights to zero, such as
    `kr.optimizers.IrrelevantWeightDecay(kr.optimizers.Masked(…))`. End the training with a few epochs after the
    last pruning. The epochs' logs get `sparsity`.

    Args:
        validation_data: `(x, y)`, `(x, y, sample_weight)`, or a data set that can be read again.
        tolerance: $\tau \ge 0$, the relative rise of the loss that all pruning together may cost.
        start: Number of epochs before the first pruning, at least 1.
        every: Epochs from one pruning to the next, at least 1.
        rank_filter: Prune only variables of at least this rank (2: kernels, no biases); None for all but
            those of normalization layers.

    Raises:
        ValueError: If a number is out of range; when training begins, if the optimizer keeps no masks.

    Cost: about ten validation passes per pruning.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    x = np.random.default_rng(0).normal(size=(32, 4))
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    optimizer = kr.optimizers.IrrelevantWeightDecay(kr.optimizers.Masked("sgd"), factor=1e-2)
    model.compile(optimizer, "mse")
    pruning = kr.callbacks.IterativePruning((x, x[:, :1]), tolerance=0.1, start=4, every=2)
    model.fit(x, x[:, :1], epochs=10, callbacks=[pruning], verbose=0)
    ```

    Reference: Giovanni Bonetta, Matteo Ribero and Rossella Cancelliere, *Regularization-based Pruning of
    Irrelevant Weights in Deep Neural Architectures*, 2022, Applied Intelligence, arXiv:2204.04977.
    """

    def __init__(
        self,
        validation_data: Any,
        tolerance: float = 0.05,
        start: int = 1,
        every: int = 1,
        rank_filter: int | None = None,
    ):
        check_integer("start", start, minimum=1)
        check_integer("every", every, minimum=1)
        super().__init__(validation_data, tolerance, rank_filter)
        self.start = start
        self.every = every

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        super().on_train_begin(logs)
        self._bound = None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        since = epoch + 1 - self.start
        if since >= 0 and since % self.every == 0:
            loss = self.loss()
            if self._bound is None:
                self._bound = (1 + self.tolerance) * loss
            if loss <= self._bound:
                self.prune(self._bound)
        if logs is not None:
            logs["sparsity"] = self.sparsity()
