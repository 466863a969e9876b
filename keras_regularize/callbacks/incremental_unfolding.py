"""Unfolded iterations trained one after the other."""

from typing import Any

import keras

from keras_regularize.callbacks.fitting import all_layers
from keras_regularize.layers.unfolded import UnfoldedIHT, UnfoldedISTA
from keras_regularize.validation import check_integer


class IncrementalUnfolding(keras.callbacks.Callback):
    r"""Trains unfolded layers with one iteration first, then two, and so on up to all.

    Early iterations are then trained on their own result, which for deep networks gives better step sizes than
    training all at once. A model that is resumed by `fit(…, initial_epoch=…)` goes on where it was; at the end of
    a training all iterations are active.

    Args:
        epochs_per_layer: Number of epochs with each number of iterations, at least 1.

    Raises:
        ValueError: If `epochs_per_layer` is no positive integer; when training begins, if there is no unfolded
            layer in the model.

    Cost: the train function is compiled anew for each number of iterations.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(10, 20))
    x = rng.normal(size=(64, 20)) * (rng.uniform(size=(64, 20)) < 0.1)
    net = keras.Sequential([kr.layers.UnfoldedISTA(matrix, 3, 0.1)])
    net.compile("adam", "mse")
    callback = kr.callbacks.IncrementalUnfolding(epochs_per_layer=2)
    net.fit(x @ matrix.T, x, epochs=6, callbacks=[callback], verbose=0)
    ```

    Reference: Daisuke Ito, Satoshi Takabe and Tadashi Wadayama, *Trainable ISTA for Sparse Signal Recovery*, IEEE
    Transactions on Signal Processing 2019, arXiv:1801.01978.
    """

    def __init__(self, epochs_per_layer: int):
        super().__init__()
        self.epochs_per_layer = check_integer("epochs_per_layer", epochs_per_layer, minimum=1)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        every = all_layers(self.model)
        self._layers = [x for x in every if isinstance(x, (UnfoldedISTA, UnfoldedIHT))]
        if not self._layers:
            raise ValueError(
                "`IncrementalUnfolding` needs a model with a `kr.layers.UnfoldedISTA` or `UnfoldedIHT`. "
                "Received a model without."
            )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        self._activate(1 + epoch // self.epochs_per_layer)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        self._activate(max(layer.num_iterations for layer in self._layers))

    def _activate(self, count):
        counts = [min(count, layer.num_iterations) for layer in self._layers]
        if counts == [layer.active_iterations for layer in self._layers]:
            return
        for layer, active in zip(self._layers, counts):
            layer.active_iterations = active
        # It is a constant of the compiled functions.
        for make in ("train", "test", "predict"):
            getattr(self.model, f"make_{make}_function")(force=True)
