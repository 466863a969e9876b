"""A factor and an offset per class."""

from typing import Any

import keras
import numpy as np

from keras_regularize.analysis.calibration._post_hoc import LogitScaling
from keras_regularize.analysis.calibration._samples import log_softmax


class VectorScaling(LogitScaling):
    r"""Calibrates a trained classifier by a factor and an offset per class.

    $$p = \operatorname{softmax}(w \odot z + b), \qquad
      (w, b) = \arg\min -\frac1n \sum_i \log \operatorname{softmax}(w \odot z_i + b)_{y_i}$$

    over samples that were not trained on. Unlike `TemperatureScaling` it can mend classes that are predicted too
    often, and so changes predictions; with $2K$ numbers for $K$ classes it needs some ten samples per number. Of a
    single column it is Platt scaling, $\sigma(w z + b)$.

    The result is `calibrated_model`, as in `TemperatureScaling`.

    Args:
        model: A Keras model with one output, scores of classes `(n, classes)`, or `(n, 1)` of the second of two;
            `None` for logits that are passed in the place of inputs.
        from_logits: Whether the model gives out logits; `None` for what its loss or its last layer say. Of
            probabilities the logarithms are taken, which differ from the logits by a number per sample: not the
            same map.

    Attributes:
        scale_: The factors $w$, once it is fitted.
        offset_: The offsets $b$, once it is fitted; they sum to 0, which no probability depends on.
        calibrated_model: The calibrated model, once it is fitted.

    Raises:
        ValueError: If it cannot be known whether the outputs are logits; if the model has several outputs or
            several labels; if labels and outputs do not fit; if it is used before `fit`.

    Cost: one prediction for the samples, then about ten steps of Newton's method in float64, each a product of
    a matrix $n \times 2K$ with itself.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    y = np.random.randint(0, 3, size=300)
    logits = 3 * (np.eye(3)[y] + np.random.normal(size=(300, 3))) + [2.0, 0.0, 0.0]  # The first too often.
    scaling = kr.analysis.VectorScaling().fit(logits, y)
    probabilities = scaling.predict(logits)
    ```

    Reference: Chuan Guo, Geoff Pleiss, Yu Sun and Kilian Q. Weinberger, *On Calibration of Modern Neural
    Networks*, ICML 2017, arXiv:1706.04599. Of two classes: John Platt, *Probabilistic Outputs for Support Vector
    Machines and Comparisons to Regularized Likelihood Methods*, Advances in Large Margin Classifiers 1999.
    """

    scale_: np.ndarray
    offset_: np.ndarray

    def fit(
        self, x: Any, y: Any, sample_weight: Any = None, batch_size: int | None = None
    ) -> "VectorScaling":
        """Finds factors and offsets.

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
        columns = z.shape[1]
        self.scale_, self.offset_ = _fit(rows[:, -columns:], z, weight[:, None])
        self._build(x, self._layer)
        self.calibrated_model.get_layer("vector_scaling").set_weights([self.scale_, self.offset_])
        return self

    def _layer(self, dtype):
        return keras.layers.EinsumDense(
            "...k,k->...k",
            (len(self.scale_),),
            bias_axes="k",
            trainable=False,
            dtype=dtype,
            name="vector_scaling",
        )


def _fit(rows, z, weight):
    """Newton's method with backtracking; of a single column, the other class has a logit of 0."""
    size, columns = z.shape
    single = columns == 1
    theta = np.concatenate([np.ones(columns), np.zeros(columns)])

    def evaluate(theta):
        """The mean negative log-likelihood, and probabilities."""
        s = theta[:columns] * z + theta[columns:]
        both = np.concatenate([np.zeros_like(s), s], axis=1) if single else s
        log_p = log_softmax(both)
        t = np.concatenate([1.0 - rows, rows], axis=1) if single else rows
        return -np.sum(weight * t * log_p) / size, np.exp(log_p[:, -columns:])

    loss, p = evaluate(theta)
    for _ in range(100):
        spread, error = weight * p, weight * (p - rows)
        both = np.concatenate([z * p, p], axis=1)
        gradient = np.concatenate([(error * z).sum(axis=0), error.sum(axis=0)]) / size
        hessian = -(weight * both).T @ both
        first, second = np.arange(columns), columns + np.arange(columns)
        cross = (z * spread).sum(axis=0)
        hessian[first, first] += (z**2 * spread).sum(axis=0)
        hessian[second, second] += spread.sum(axis=0)
        hessian[first, second] += cross
        hessian[second, first] += cross
        hessian = hessian / size
        # Offsets that are all alike change nothing: without a little more it is singular.
        hessian[np.diag_indices_from(hessian)] += 1e-9 * np.trace(hessian) / columns + 1e-12
        step = np.linalg.solve(hessian, gradient)
        decrease = gradient @ step
        if decrease < 1e-13:
            break
        length = 1.0
        while length > 1e-6:
            new_loss, new_p = evaluate(theta - length * step)
            if new_loss <= loss - 1e-4 * length * decrease:
                break
            length /= 2
        else:
            break  # Nothing more to gain within rounding.
        theta, loss, p = theta - length * step, new_loss, new_p
    scale, offset = theta[:columns], theta[columns:]
    return scale, offset if single else offset - offset.mean()
