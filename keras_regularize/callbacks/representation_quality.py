"""What features are good for, over the epochs of a training without labels."""

from typing import Any

import keras
import numpy as np

from keras_regularize.analysis import effective_rank, knn_accuracy, linear_probe
from keras_regularize.validation import check_choice, check_integer


class RepresentationQuality(keras.callbacks.Callback):
    r"""Logs at the end of epochs what the features of `model.predict` are good for, and whether they collapse.

    A self-supervised loss may fall while features get worse, or all the same. In the logs, as metrics are, stand

    | key | what it is |
    |---|---|
    | `probe_accuracy` | accuracy of `kr.analysis.linear_probe`, or of `kr.analysis.knn_accuracy` |
    | `effective_rank` | of the centred features: how many directions they use |
    | `feature_std` | mean deviation of features of length 1, times $\sqrt d$: at most 1, 0 if all are equal |

    The labels are only looked at: nothing is trained on them.

    Args:
        x: Inputs, as `model.predict` takes them.
        y: Their labels `(n,)`, to fit the probe to.
        test_x: Other inputs, on which accuracy is measured.
        test_y: Their labels.
        probe: `"linear"` or `"knn"`.
        every: Number of epochs from one measurement to the next, at least 1.

    Raises:
        ValueError: If an argument is out of range.

    Cost: per measurement a prediction of all inputs, the probe and a singular value decomposition.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.arange(64) % 3
    encoder = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, activation="relu")])
    model = kr.models.MultiView(encoder, keras.layers.GaussianNoise(0.1))
    model.compile("adam", loss=kr.losses.NTXent())
    quality = kr.callbacks.RepresentationQuality(x[:48], y[:48], x[48:], y[48:])
    model.fit(x, epochs=2, callbacks=[quality], verbose=0).history["probe_accuracy"]
    ```
    """

    def __init__(
        self, x: Any, y: Any, test_x: Any, test_y: Any, probe: str = "linear", every: int = 1
    ):
        super().__init__()
        self.x, self.y, self.test_x, self.test_y = x, y, test_x, test_y
        self.probe = check_choice("probe", probe, ("linear", "knn"))
        self.every = check_integer("every", every, minimum=1)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Called by Keras."""
        if (epoch + 1) % self.every or logs is None:
            return
        features, test = (
            self.model.predict(part, verbose=0).astype("float64") for part in (self.x, self.test_x)
        )
        known = (features, self.y, test, self.test_y)
        linear = self.probe == "linear"
        logs["probe_accuracy"] = linear_probe(*known).accuracy if linear else knn_accuracy(*known)
        flat = features.reshape(len(features), -1)
        logs["effective_rank"] = effective_rank(flat - flat.mean(axis=0))
        length = np.linalg.norm(flat, axis=1, keepdims=True)
        unit = flat / np.where(length > 0, length, 1.0)
        logs["feature_std"] = float(unit.std(axis=0).mean() * np.sqrt(flat.shape[1]))
