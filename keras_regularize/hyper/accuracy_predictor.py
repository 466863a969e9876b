"""Predicts a quantized network's accuracy from the bits of its layers."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_regularize.configuration import Configured
from keras_regularize.registration import export
from keras_regularize.validation import check_integer


@export
class AccuracyPredictor(Configured):
    r"""Learns the accuracy of subnets from some that were measured, to rank thousands that were not.

    A network of three hidden layers of 400 rectified units maps the one-hot bits of all layers, and the one-hot
    flags of how they are quantized, to one number. Targets are standardized while it learns. It is what
    `kr.hyper.search_bits` asks instead of evaluating each candidate.

    Args:
        bits: The bit widths there are.
        num_flags: Number of conditions, 0 or 1 each, that follow the bits in a row, such as symmetric or not.
        units: Units of each hidden layer.

    Raises:
        ValueError: If an argument is out of range.

    Cost: of `fit`, seconds for some hundred measured subnets; of a call, one pass of a small network.

    Example:

    ```python
    import keras_regularize as kr
    import numpy as np

    rows = np.random.default_rng(0).choice([2, 4, 8], (64, 6))  # bits of weights, then of inputs
    predictor = kr.hyper.AccuracyPredictor(bits=(2, 4, 8))
    predictor.fit(rows, 0.5 + 0.05 * rows.mean(1), epochs=5)
    predictor(rows)  # (64,)
    ```

    Reference: Xu, Han, Tian, Yang and Zhang, *EQ-Net: Elastic Quantization Neural Networks*, ICCV 2023,
    arXiv:2308.07650. The authors' code leaves the flags of asymmetric quantization at 0; here both values of a
    flag have a unit.
    """

    def __init__(self, bits: Sequence[int], num_flags: int = 0, units: int = 400):
        if not np.ndim(bits) or not list(bits) or list(bits) != sorted(set(bits)):
            raise ValueError(
                f"`bits` must be bit widths in ascending order. Received: bits={bits!r}"
            )
        self.bits = [int(b) for b in bits]
        self.num_flags = check_integer("num_flags", num_flags, minimum=0)
        self.units = check_integer("units", units, minimum=1)
        self.model: Any = None

    def fit(
        self, rows: Any, accuracies: Any, epochs: int = 100, learning_rate: float = 1e-3
    ) -> None:
        """Learns from measured subnets.

        Args:
            rows: `(subnets, genes + num_flags)`: bits, then flags.
            accuracies: `(subnets,)`.
            epochs: Passes over them, in batches of 32.
            learning_rate: Of Adam.
        """
        features, accuracies = self._features(rows), np.asarray(accuracies, "float32")
        self._mean, self._spread = accuracies.mean(), accuracies.std() or 1.0
        hidden = [keras.layers.Dense(self.units, activation="relu") for _ in range(3)]
        self.model = keras.Sequential(
            [keras.Input(features.shape[1:]), *hidden, keras.layers.Dense(1)]
        )
        self.model.compile(keras.optimizers.Adam(learning_rate), "mse")
        targets = (accuracies - self._mean) / self._spread
        self.model.fit(features, targets[:, None], batch_size=32, epochs=epochs, verbose=0)

    def __call__(self, rows: Any) -> np.ndarray:
        """Predicted accuracies `(subnets,)`.

        Args:
            rows: As in `fit`.

        Raises:
            ValueError: If nothing was learnt yet, or a row holds other bits.
        """
        if self.model is None:
            raise ValueError("The predictor knows nothing yet: call `fit` first.")
        predicted = self.model.predict(self._features(rows), batch_size=1024, verbose=0)
        return predicted[:, 0] * self._spread + self._mean

    def _features(self, rows):
        rows = np.asarray(rows)
        bits, flags = np.split(rows, [rows.shape[1] - self.num_flags], axis=1)
        if not np.isin(bits, self.bits).all() or not np.isin(flags, (0, 1)).all():
            raise ValueError(
                f"`rows` must hold bits of {self.bits} and then {self.num_flags} flags of 0 or 1. "
                f"Received the values {np.unique(rows)}"
            )
        parts = [bits[..., None] == np.array(self.bits), flags[..., None] == np.arange(2)]
        return np.concatenate([part.reshape((len(rows), -1)) for part in parts], 1).astype(
            "float32"
        )
