"""An increasing map per class."""

from typing import Any

import numpy as np

from keras_regularize.analysis.calibration._post_hoc import PostHoc
from keras_regularize.analysis.calibration._samples import both_classes, log_softmax


class IsotonicCalibration(PostHoc):
    r"""Calibrates a trained classifier by an increasing map of every class' probability.

    For each class $k$ the increasing function $f_k$ of least squared error
    $\sum_i \big(f_k(p_{ik}) - [y_i = k]\big)^2$ over samples that were not trained on, a step function that is
    linear between samples; then

    $$p_k \leftarrow f_k(p_k) \Big/ \sum_j f_j(p_j),$$

    or equal probabilities if all are 0. It takes any form of miscalibration for which a larger probability is
    still a larger share, but needs a thousand samples or more: with few it overfits, and gives probabilities of
    exactly 0 and 1, an infinite log-likelihood. Predictions may change. For a calibrated Keras model take
    `TemperatureScaling` or `VectorScaling`.

    Args:
        model: A Keras model with one output, scores of classes `(n, classes)`, or `(n, 1)` of the second of two;
            `None` for logits that are passed in the place of inputs.
        from_logits: Whether the model gives out logits; `None` for what its loss or its last layer say. Without a
            model `False` takes probabilities.

    Attributes:
        maps_: The `sklearn.isotonic.IsotonicRegression` of every class, of the second alone for one column, once
            it is fitted.

    Raises:
        ImportError: If scikit-learn is not installed.
        ValueError: If it cannot be known whether the outputs are logits; if the model has several outputs or
            several labels; if labels and outputs do not fit; if it is used before `fit`.

    Cost: one prediction for the samples, and a sort of them per class.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    y = np.random.randint(0, 2, size=2000)
    p = np.clip(0.5 + 0.3 * (2 * y - 1) * np.random.uniform(-0.5, 1.0, size=2000), 0, 1)
    isotonic = kr.analysis.IsotonicCalibration(from_logits=False).fit(p, y)
    calibrated = isotonic.predict(p)
    ```

    Reference: Bianca Zadrozny and Charles Elkan, *Transforming Classifier Scores into Accurate Multiclass
    Probability Estimates*, KDD 2002.
    """

    maps_: list[Any]

    def fit(
        self, x: Any, y: Any, sample_weight: Any = None, batch_size: int | None = None
    ) -> "IsotonicCalibration":
        """Finds the maps.

        Args:
            x: Inputs that were not trained on; without a model, logits or probabilities `(n, classes)`.
            y: Labels as in `fit_temperature`.
            sample_weight: Weights `(n,)`, or one for each position. Those of weight 0, such as padding, do not
                count, whatever their labels; without weights all count.
            batch_size: Number of samples at once, as in `keras.Model.predict`.

        Returns:
            The object itself.
        """
        try:
            from sklearn.isotonic import IsotonicRegression
        except ImportError as error:
            raise ImportError(
                "`IsotonicCalibration` needs scikit-learn: `pip install scikit-learn`."
            ) from error
        rows, z, weight = self._fit(x, y, sample_weight, batch_size)
        p = np.exp(log_softmax(both_classes(z, True)))
        self.maps_ = [
            IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(
                p[:, k], rows[:, k], sample_weight=weight
            )
            for k in range(p.shape[1])[-z.shape[1] :]
        ]
        return self

    def predict(self, x: Any, batch_size: int | None = None) -> np.ndarray:
        """Calibrated probabilities.

        Args:
            x: Inputs of the model; without a model, logits or probabilities.
            batch_size: Number of samples at once, as in `keras.Model.predict`.

        Returns:
            Float64 probabilities `(n, classes)`, or `(n, 1)` of the second of two classes.
        """
        maps = self._check_fitted("maps_")
        z = self._scores(x, batch_size)
        if z.shape[-1] != len(maps):
            raise ValueError(
                f"Expected scores of {len(maps)} columns, as in `fit`. Received: shape {z.shape}"
            )
        p = np.exp(log_softmax(both_classes(z, True)))[..., -len(maps) :]
        found = [f.predict(p[..., k].ravel()).reshape(p.shape[:-1]) for k, f in enumerate(maps)]
        q = np.stack(found, axis=-1)
        if len(maps) == 1:
            return q
        total = q.sum(axis=-1, keepdims=True)
        return np.where(total > 0, q / np.where(total > 0, total, 1.0), 1.0 / len(maps))
