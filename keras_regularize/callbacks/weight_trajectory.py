"""The weights along a training."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.validation import check_integer


class WeightTrajectory(keras.callbacks.Callback):
    r"""Keeps the trainable weights along a training, to look at its way through the loss landscape.

    The weights before the first step and then after every epoch, or every so many batches, in main memory, in
    `weights`: a list of lists of arrays. `kr.analysis.pca_trajectory` finds the plane in which they moved most.
    A further `fit` from an `initial_epoch` above 0 goes on with the list; one from epoch 0 begins anew.

    Args:
        frequency: `"epoch"`, or a number of batches, at least 1.

    Raises:
        ValueError: If `frequency` is neither.

    Cost: a copy of the weights each time, in host memory.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", "mse")
    path = kr.callbacks.WeightTrajectory()
    model.fit(np.ones((8, 4)), np.zeros((8, 3)), epochs=3, callbacks=[path], verbose=0)
    len(path.weights)  # 4
    ```

    Reference: Hao Li, Zheng Xu, Gavin Taylor, Christoph Studer and Tom Goldstein, *Visualizing the Loss Landscape
    of Neural Nets*, NeurIPS 2018, arXiv:1712.09913.
    """

    def __init__(self, frequency: str | int = "epoch"):
        super().__init__()
        if frequency != "epoch":
            check_integer("frequency", frequency, minimum=1)
        self.frequency = frequency
        self.weights: list[list[np.ndarray]] = []
        self._batches = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        if epoch == 0:
            self.weights, self._batches = [], 0
        if not self.weights:
            self._keep()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        self._batches += 1
        if self.frequency != "epoch" and self._batches % int(self.frequency) == 0:
            self._keep()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        if self.frequency == "epoch":
            self._keep()

    def _keep(self):
        # A copy: on some backends the array is the memory of the variable.
        variables = self.model.trainable_variables
        self.weights.append([np.array(ops.convert_to_numpy(v)) for v in variables])
