"""The noise of gradients over the epochs of a training."""

from typing import Any

import keras

from keras_regularize.analysis import gradient_statistics
from keras_regularize.validation import check_choice, check_integer


class GradientStatistics(keras.callbacks.Callback):
    r"""Logs at the end of epochs how noisy the gradients of single samples are.

    In the logs, as metrics are, stand those of `kr.analysis.gradient_statistics`: `noise_scale`, the batch size
    up to which larger batches pay, `trace_covariance`, and `gap_change`, by how much a step of gradient descent
    on all of these data widens the gap of test and training loss at the present learning rate. While a model
    learns, the noise scale grows as a rule, and with it the batch size that is worth its time.

    Args:
        x: Inputs, some hundreds of the training data; arrays, or a dataset of batches.
        y: Their labels, `None` with a dataset.
        every: Number of epochs from one measurement to the next, at least 1.
        method: `"per_sample"`, or `"two_batch"` for large models.
        batch_size: Samples at once, at least 1.

    Raises:
        ValueError: If an argument is out of range.

    Cost: per measurement a gradient per sample, or per batch with `"two_batch"`.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 4)), np.arange(64) % 3
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    noise = kr.callbacks.GradientStatistics(x[:32], y[:32])
    model.fit(x, y, epochs=2, callbacks=[noise], verbose=0).history["noise_scale"]
    ```

    Reference: Sam McCandlish, Jared Kaplan, Dario Amodei and the OpenAI Dota Team, *An Empirical Model of
    Large-Batch Training*, 2018, arXiv:1812.06162.
    """

    def __init__(
        self,
        x: Any,
        y: Any = None,
        every: int = 1,
        method: str = "per_sample",
        batch_size: int = 32,
    ):
        super().__init__()
        self.x, self.y = x, y
        self.every = check_integer("every", every, minimum=1)
        self.method = check_choice("method", method, ("per_sample", "two_batch"))
        self.batch_size = check_integer("batch_size", batch_size, minimum=1)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        if (epoch + 1) % self.every or logs is None:
            return
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        found = gradient_statistics(
            self.model, self.x, self.y, rate, self.method, batch_size=self.batch_size
        )
        for name in ("noise_scale", "trace_covariance", "gap_change"):
            logs[name] = getattr(found, name)
