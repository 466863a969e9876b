"""One factor for all logits."""

import warnings
from typing import Any

import keras
import numpy as np

from keras_regularize.analysis.calibration._post_hoc import LogitScaling
from keras_regularize.analysis.calibration._samples import (
    both_classes,
    class_samples,
    log_softmax,
    to_logits,
)

_LEAST, _LARGEST = 0.01, 100.0


def fit_temperature(y_true: Any, logits: Any) -> float:
    r"""The temperature that makes a classifier's confidence fit its accuracy.

    $$T = \arg\min_{0.01 \le T \le 100} -\frac1n \sum_i \log \operatorname{softmax}(z_i / T)_{y_i}$$

    for logits $z_i$ of samples that were not trained on. Networks are mostly too sure, $T > 1$. The prediction
    stays the same class. `TemperatureScaling` makes a model of it.

    Args:
        y_true: Class ids `(n,)` or `(n, 1)`, or one-hot or soft rows `(n, classes)`. Further axes before the
            classes are positions.
        logits: Logits `(n, classes)`; `(n,)` or `(n, 1)` are those of the second of two classes.

    Returns:
        The temperature, a float. It is 0.01, with a warning, if the label has the largest logit in all samples:
        they are too few, or were trained on. It is 100, with a warning, if a larger logit does not make a class
        likelier.

    Raises:
        ValueError: If shapes do not fit, there is no sample, labels are no classes, or logits are not finite.

    Cost: about ten passes over the logits, in float64: the problem is convex in $1/T$, and solved by Newton's
    method.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    y = np.random.randint(0, 3, size=200)
    logits = 5 * (np.eye(3)[y] + np.random.normal(size=(200, 3)))  # Much too sure.
    temperature = kr.analysis.fit_temperature(y, logits)  # About 5.
    ```

    Reference: Chuan Guo, Geoff Pleiss, Yu Sun and Kilian Q. Weinberger, *On Calibration of Modern Neural
    Networks*, ICML 2017, arXiv:1706.04599.
    """
    rows, z = class_samples(y_true, to_logits(logits, True))
    return _temperature(rows, both_classes(z, True), np.ones(len(z)))


class TemperatureScaling(LogitScaling):
    r"""Calibrates a trained classifier by one factor for all logits.

    $$p = \operatorname{softmax}(z / T)$$

    with the temperature $T$ of `fit_temperature`, from samples that were not trained on. Accuracy stays as it is;
    one number cannot overfit, so that some hundred samples are enough.

    The result is `calibrated_model`: a functional model around the given one, whose weights it shares, that gives
    out probabilities. It is made of layers and operations of Keras alone: it predicts, is saved, loaded and
    exported as any other, also where this package is not installed, unless the given model needs it.

    Args:
        model: A Keras model with one output, scores of classes `(n, classes)`, or `(n, 1)` of the second of two;
            `None` for logits that are passed in the place of inputs.
        from_logits: Whether the model gives out logits; `None` for what its loss or its last layer say. Of
            probabilities the logarithms are taken, as which those that were rounded to 0 and 1 are lost.

    Attributes:
        temperature_: The temperature, once it is fitted.
        calibrated_model: The calibrated model, once it is fitted.

    Raises:
        ValueError: If it cannot be known whether the outputs are logits; if the model has several outputs or
            several labels; if labels and outputs do not fit; if it is used before `fit`.

    Cost: one prediction for the samples, and that of `fit_temperature`.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x = np.random.normal(size=(200, 8))
    y = x[:, :3].argmax(axis=1)
    model = keras.Sequential([keras.layers.Dense(64, activation="relu"), keras.layers.Dense(3)])
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x[:100], y[:100], epochs=20, verbose=0)
    scaling = kr.analysis.TemperatureScaling(model).fit(x[100:], y[100:])
    probabilities = scaling.calibrated_model.predict(x, verbose=0)
    ```

    Reference: Chuan Guo, Geoff Pleiss, Yu Sun and Kilian Q. Weinberger, *On Calibration of Modern Neural
    Networks*, ICML 2017, arXiv:1706.04599.
    """

    temperature_: float

    def fit(
        self, x: Any, y: Any, sample_weight: Any = None, batch_size: int | None = None
    ) -> "TemperatureScaling":
        """Finds the temperature.

        Args:
            x: Inputs that were not trained on; without a model, logits `(n, classes)`.
            y: Labels as in `fit_temperature`.
            sample_weight: Weights `(n,)`, or one for each position. Those of weight 0, such as padding, do not
                count, whatever their labels; without weights all count.
            batch_size: Number of samples at once, as in `keras.Model.predict`.

        Returns:
            The object itself.
        """
        rows, z, weight = self._fit(x, y, sample_weight, batch_size)
        self.temperature_ = _temperature(rows, both_classes(z, True), weight)
        self._build(x, lambda dtype: keras.layers.Rescaling(1.0 / self.temperature_, dtype=dtype))
        return self


def _temperature(rows, z, weight):
    """Newton's method on the derivative in `1/T`, which increases, within an interval around its zero."""
    z = z - z.max(axis=-1, keepdims=True)
    if not z.any():  # Every temperature gives the same.
        return 1.0
    target = np.mean(weight * np.sum(rows * z, axis=-1))

    def derivatives(inverse):
        p = np.exp(log_softmax(inverse * z))
        mean = np.sum(p * z, axis=-1)
        variance = np.sum(p * z**2, axis=-1) - mean**2
        return np.mean(weight * mean) - target, np.mean(weight * variance)

    low, high, inverse = 1.0 / _LARGEST, 1.0 / _LEAST, 1.0
    for end, found, cause in (
        (high, derivatives(high)[0] <= 0, "the label has the largest logit in all samples"),
        (low, derivatives(low)[0] >= 0, "classes of larger logits are not likelier"),
    ):
        if found:
            warnings.warn(
                f"The temperature is at the end of its range, {1 / end}: {cause}.", stacklevel=3
            )
            return 1.0 / end
    for _ in range(100):
        slope, curvature = derivatives(inverse)
        low, high = (low, inverse) if slope > 0 else (inverse, high)
        new = inverse - slope / curvature if curvature > 0 else 0.0
        if not low <= new <= high:
            new = np.sqrt(low * high)
        if abs(new - inverse) <= 1e-12 * inverse:
            break
        inverse = new
    return float(1.0 / inverse)
