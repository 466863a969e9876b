"""Adaptive regularized training: from exploring weights to a sparse network."""

import collections
import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.registration import export
from keras_regularize.regularizers.hyper_sparse import hyper_sparse_loss
from keras_regularize.utils.variables import check_where, chooser
from keras_regularize.validation import check_integer, check_number


@export
class ART(RegularizedModel):
    r"""Presses the smallest weights of a network to zero, harder every epoch, and keeps the best pruned one.

    After `warmup_epochs` plain epochs, epoch $e$ trains

    $$L + \lambda_e\, H(w), \qquad \lambda_e = \lambda_0\,\gamma^{\,e - e_\text{warmup}},$$

    with $H$ the HyperSparse loss over all kernels together: its value is always 0; its gradient is about
    $\operatorname{sign}(w)$ times a constant for the part `sparsity` of the weights that is smallest, and about
    0 for large ones. So training decides which weights stay, first softly, then for good. After each of these
    epochs a copy, pruned by magnitude to the wanted sparsity, is evaluated on the training data. `fit` ends when
    its accuracy, averaged over $2 \cdot \text{window} + 1$ epochs, exceeds that of the dense model in the epoch;
    the model then has the weights of the pruned copy in the middle of the best such window. If the epochs end
    before, the best window so far counts; if there was none, the model stays dense. Without an accuracy among
    the compiled metrics the loss takes its place.

    Fine-tune with fixed zeros afterwards, under a fresh optimizer (see the example).

    ART must be the outermost wrapper, as its schedule is its `fit`; a `train_on_batch` uses the $\lambda$ of the
    last epoch. What it remembers between epochs is not saved.

    Args:
        model: The model to train, or another wrapper.
        sparsity: Part of all kernel weights that is zero in the end, in [0, 1).
        factor: $\lambda_0 \ge 0$.
        growth: $\gamma \ge 1$ per epoch. Small networks trained for few epochs need more than the default.
        warmup_epochs: $e_\text{warmup} \ge 0$, epochs of plain training.
        window: At least 0.
        where: Which variables become sparse: the name of a variable, a list of names of variables or of layers
            on their path, or a function of the variable such as `kr.utils.AllBut`; `None` for kernels, that is
            all of rank 2 or more whose name ends in `kernel`.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range, or if the model has no kernels; in `fit`, if a generator is
            passed, which cannot be read twice; in `masks`, if the model is not as sparse as was asked for.

    Cost: one forward-backward pass per step, a sort of all kernel weights, and per epoch an evaluation on the
    training data and a copy of the weights.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    x, y = np.random.default_rng(0).normal(size=(32, 4)), np.arange(32) % 3
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)])

    art = kr.models.ART(net, sparsity=0.5, factor=1e-4, growth=1.5, warmup_epochs=1)
    art.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
    art.fit(x, y, epochs=8, verbose=0)

    net.compile(kr.optimizers.Masked(keras.optimizers.SGD(0.01)), loss)
    net.optimizer.build(net.trainable_variables)
    net.optimizer.set_masks(art.masks())
    net.fit(x, y, verbose=0)
    ```

    Reference: Patrick Glandorf, Timo Kaiser and Bodo Rosenhahn, *HyperSparse Neural Networks: Shifting
    Exploration to Exploitation through Adaptive Regularization*, ICCV workshops 2023, arXiv:2308.07163. The
    defaults are those of the code.
    """

    def __init__(
        self,
        model: keras.Model,
        sparsity: float = 0.9,
        factor: float = 5e-6,
        growth: float = 1.05,
        warmup_epochs: int = 60,
        window: int = 1,
        where: str | Sequence[str] | Callable[[keras.Variable], bool] | None = None,
        **kwargs: Any,
    ):
        super().__init__(model, **kwargs)
        self.sparsity = check_number("sparsity", sparsity, minimum=0, below=1)
        self.factor = check_number("factor", factor, minimum=0)
        self.growth = check_number("growth", growth, minimum=1)
        self.warmup_epochs = check_integer("warmup_epochs", warmup_epochs, minimum=0)
        self.window = check_integer("window", window, minimum=0)
        self.where = check_where(where)
        self.strength = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(self._strength_of(0)),
            dtype="float32",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
            name="strength",
        )

    def objective(self, batch, forward):
        loss, values = super().objective(batch, forward)
        kernels = [forward.weight(v) for v in self._kernels(batch.variables)]
        joined = ops.concatenate([ops.reshape(w, (-1,)) for w in kernels])
        penalty = hyper_sparse_loss(joined, self.sparsity)
        return loss + ops.cast(self.strength * penalty, loss.dtype), values

    def fit(
        self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any
    ) -> keras.callbacks.History:
        """As `keras.Model.fit`; see the class for how it ends."""
        given = inspect.signature(keras.Model.fit).bind(self, x, y, *args, **kwargs).arguments
        arguments = {name: value for name, value in given.items() if name not in ("self", "x", "y")}
        if isinstance(x, Iterator):
            raise ValueError(
                "`ART` evaluates on the training data after each epoch, so it needs arrays or a data set that "
                f"can be read again. Received: x={x!r}"
            )
        names = ("sample_weight", "batch_size")
        again = {name: arguments[name] for name in names if name in arguments}
        arguments["callbacks"] = [*(arguments.get("callbacks") or ()), _Selection(x, y, again)]
        return super().fit(x, y, **arguments)

    def masks(self) -> list[np.ndarray | None]:
        """Where kernels are not zero, for `kr.optimizers.Masked.set_masks`: an entry per trainable variable.

        Returns:
            Boolean arrays for kernels and None for all others, in the order of the wrapped model's
            `trainable_variables`.

        Raises:
            ValueError: If fewer weights are zero than were to be: `fit` has chosen no pruned model yet.
        """
        variables = self.model.trainable_variables
        masks = {id(v): ops.convert_to_numpy(v) != 0 for v in self._kernels(variables)}
        zeros = sum(int((~mask).sum()) for mask in masks.values())
        wanted = int(self.sparsity * sum(mask.size for mask in masks.values()))
        if zeros < wanted:
            raise ValueError(
                f"`fit` has chosen no pruned model yet: that takes {2 * self.window + 1} epochs after the "
                f"{self.warmup_epochs} of the warm-up. Expected {wanted} zeros, received {zeros}."
            )
        return [masks.get(id(v)) for v in variables]

    def _kernels(self, variables):
        kernels = list(filter(chooser(self.where, _is_kernel), variables))
        if not kernels:
            raise ValueError(
                "`ART` makes kernels of dense and convolutional layers sparse, or what `where` chooses. Received: "
                f"where={self.where!r} for a model whose trainable variables are called "
                f"{sorted({v.name for v in variables})}."
            )
        return kernels

    def _strength_of(self, epoch):
        if epoch < self.warmup_epochs:
            return 0.0
        return self.factor * self.growth ** (epoch - self.warmup_epochs)


def _is_kernel(variable):
    return len(variable.shape) >= 2 and variable.name.endswith("kernel")


class _Selection(keras.callbacks.Callback):
    """Sets the strength of each epoch and chooses the pruned copy that `fit` ends with."""

    def __init__(self, x, y, options):
        super().__init__()
        self._data = (x, y)
        self._options = {**options, "verbose": 0, "return_dict": True}
        # Mean score, higher is better, and weights.
        self._best: tuple[float, Any] = (-np.inf, None)

    def on_train_begin(self, logs=None):
        self._recent: collections.deque[tuple[float, Any]] = collections.deque(
            maxlen=2 * self.model.window + 1
        )

    def on_epoch_begin(self, epoch, logs=None):
        self.model.strength.assign(self.model._strength_of(epoch))

    def on_epoch_end(self, epoch, logs=None):
        model = self.model
        if epoch < model.warmup_epochs:
            return
        accuracies = [k for k in logs if "accuracy" in k and not k.startswith("val_")]
        name, sign = (accuracies[0], 1) if accuracies else ("loss", -1)
        dense = model.get_weights()
        _prune(model._kernels(model.model.trainable_variables), model.sparsity)
        result = model.evaluate(*self._data, **self._options)[name]
        self._recent.append((sign * result, model.get_weights()))
        model.set_weights(dense)
        if len(self._recent) == self._recent.maxlen:
            mean = float(np.mean([score for score, _ in self._recent]))
            if mean > self._best[0]:
                self._best = (mean, self._recent[model.window][1])
            if self._best[0] > sign * logs[name]:
                model.stop_training = True
        logs[f"pruned_{name}"] = result

    def on_train_end(self, logs=None):
        if self._best[1] is not None:
            self.model.set_weights(self._best[1])


def _prune(kernels, sparsity):
    """Sets the part `sparsity` of all weights, the smallest, to zero."""
    values = [np.array(ops.convert_to_numpy(v), "float32") for v in kernels]
    magnitudes = np.sort(np.concatenate([np.abs(w).reshape(-1) for w in values]))
    count = int(sparsity * magnitudes.size)
    threshold = magnitudes[count - 1] if count else -1.0
    for variable, value in zip(kernels, values):
        variable.assign(np.where(np.abs(value) > threshold, value, 0.0))
