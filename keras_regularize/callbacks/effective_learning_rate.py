"""How fast normalized layers really turn."""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.callbacks.fitting import all_layers, without_wrappers
from keras_regularize.numerics import TINY
from keras_regularize.optimizers.wrapper import chain
from keras_regularize.utils.graphs import calls_of

_NORMALIZATIONS = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.RMSNormalization,
)


class EffectiveLearningRate(keras.callbacks.Callback):
    r"""Logs, for every layer that feeds a normalization, the norm of its kernel and the rate at which it turns.

    If normalization makes the output independent of the scale of the kernel $w$, only its direction counts, and
    a step turns it by

    $$\eta_\text{eff} = \frac{\eta}{\lVert w\rVert^2}\ \ (\text{SGD}), \qquad
    \eta_\text{eff} = \frac{\eta}{\lVert w\rVert}\ \ (\text{Adam and its kin})$$

    of the gradient at unit norm. Weight decay then does not regularize the function; it keeps
    $\lVert w\rVert$ small and so $\eta_\text{eff}$ large. A rate that creeps to zero in the logs means more
    decay, one that grows means less.

    Logs at each epoch's end `<layer>_norm` and `<layer>_effective_learning_rate`.

    Args:
        layers: Names of layers with a kernel; None for those whose output goes straight into a batch, layer,
            group or RMS normalization, in Sequential and functional models and models nested in them.
        adaptive: Whether the optimizer divides gradients by their size; None: whether it is not `SGD`.

    Raises:
        ValueError: When training begins, if there is no such layer, or one without a kernel.

    Cost: the norms, once an epoch.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="hidden")])
    model.add(keras.layers.BatchNormalization())
    model.add(keras.layers.Dense(1))
    model.compile("sgd", "mse")
    rates = kr.callbacks.EffectiveLearningRate()
    history = model.fit(np.ones((8, 4)), np.ones((8, 1)), callbacks=[rates], verbose=0)
    history.history["hidden_effective_learning_rate"]
    ```

    Reference: Twan van Laarhoven, *L2 Regularization versus Batch and Weight Normalization*, 2017,
    arXiv:1706.05350.
    """

    def __init__(self, layers: Sequence[str] | None = None, adaptive: bool | None = None):
        super().__init__()
        if isinstance(layers, str):
            raise ValueError(f"`layers` must be a list of names. Received: layers={layers!r}")
        self.layers = layers
        self.adaptive = adaptive

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        model = without_wrappers(self.model)
        found = {layer.name: layer for layer in all_layers(model) if hasattr(layer, "kernel")}
        if self.layers is None:
            names = [name for name in _normalized(model) if name in found]
        else:
            names = list(self.layers)
        if not names or not set(names) <= set(found):
            raise ValueError(
                "`EffectiveLearningRate` needs layers with a kernel that feed a normalization; name them by "
                f"`layers`. Received: layers={self.layers}; the model has kernels in {sorted(found)}."
            )
        self._watched = [found[name] for name in names]

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        if logs is None:
            return
        optimizer = self.model.optimizer
        rate = float(ops.convert_to_numpy(optimizer.learning_rate))
        adaptive = self.adaptive
        if adaptive is None:
            adaptive = not isinstance(list(chain(optimizer))[-1], keras.optimizers.SGD)
        for layer in self._watched:
            kernel = np.asarray(ops.convert_to_numpy(layer.kernel), "float64")
            norm = float(np.sqrt(np.sum(kernel**2)))
            power = norm if adaptive else norm**2
            logs[f"{layer.name}_norm"] = norm
            logs[f"{layer.name}_effective_learning_rate"] = rate / max(power, TINY)


def _normalized(model: keras.Model) -> Iterator[str]:
    """Names of the layers whose output is the input of a normalization."""
    if isinstance(model, keras.Sequential):
        for layer, following in zip(model.layers, model.layers[1:]):
            if isinstance(following, _NORMALIZATIONS):
                yield layer.name
    elif isinstance(model, keras.Model) and getattr(model, "inputs", None):
        for layer, sources in calls_of(model):
            if isinstance(layer, _NORMALIZATIONS):
                yield from sources
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _normalized(layer)
