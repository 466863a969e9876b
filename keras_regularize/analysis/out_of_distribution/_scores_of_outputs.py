"""Scores of an input from what a classifier predicts for it."""

from typing import Any

import numpy as np

from keras_regularize.analysis.calibration._samples import (
    as_scores,
    both_classes,
    check_logits,
    class_probabilities,
    log_softmax,
)
from keras_regularize.validation import check_number


def max_softmax_score(y_pred: Any, from_logits: bool = False) -> np.ndarray:
    r"""How sure a classifier is, $\max_k p_k$: the baseline of all scores of out-of-distribution data.

    Args:
        y_pred: Probabilities or logits `(n, classes)`; `(n,)` or `(n, 1)` are those of the second of two classes.
        from_logits: Whether `y_pred` are logits.

    Returns:
        Scores `(n,)` in float64, between 1 / classes and 1, the higher the more the input is like the training
        data; further axes before the classes stay. `out_of_distribution_scores` measures how well they tell.

    Raises:
        ValueError: If predictions are not finite, or are logits where probabilities are expected, or the reverse.

    Cost: a pass over the predictions.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    known, other = 4.0 * np.random.normal(size=(500, 10)), np.random.normal(size=(300, 10))
    score = kr.analysis.max_softmax_score
    kr.analysis.out_of_distribution_scores(score(known, from_logits=True), score(other, from_logits=True))
    ```

    Reference: Dan Hendrycks and Kevin Gimpel, *A Baseline for Detecting Misclassified and Out-of-Distribution
    Examples in Neural Networks*, ICLR 2017, arXiv:1610.02136.
    """
    return class_probabilities(y_pred, from_logits).max(axis=-1)


def entropy_score(y_pred: Any, from_logits: bool = False) -> np.ndarray:
    r"""Minus the entropy of the prediction, $\sum_k p_k \log p_k$: 0 if it is certain, $-\log K$ if it is uniform.

    Where `max_softmax_score` sees the likeliest class alone, all classes count here.

    Args:
        y_pred: Probabilities or logits `(n, classes)`; `(n,)` or `(n, 1)` are those of the second of two classes.
        from_logits: Whether `y_pred` are logits.

    Returns:
        Scores `(n,)` in float64, at most 0, the higher the more the input is like the training data; further axes
        before the classes stay.

    Raises:
        ValueError: If predictions are not finite, or are logits where probabilities are expected, or the reverse.

    Cost: a pass over the predictions.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.analysis.entropy_score(np.array([[1.0, 0.0], [0.5, 0.5]]))  # 0 and -0.69.
    ```

    Reference: Dan Hendrycks, Mantas Mazeika and Thomas Dietterich, *Deep Anomaly Detection with Outlier
    Exposure*, ICLR 2019, arXiv:1812.04606, among the first to detect by it.
    """
    if from_logits:
        log_p = log_softmax(check_logits(both_classes(as_scores(y_pred), True)))
        return np.sum(np.exp(log_p) * log_p, axis=-1)
    p = class_probabilities(y_pred, False)
    return np.sum(p * np.log(np.where(p > 0, p, 1.0)), axis=-1)


def energy_score(logits: Any, temperature: float = 1.0) -> np.ndarray:
    r"""Minus the free energy of the logits, $T \log \sum_k e^{z_k / T}$.

    Softmax takes the size of the logits away, which tells more than the probabilities that are left: two inputs of
    the same prediction can have very different energies. So probabilities are no substitute for logits here.

    Args:
        logits: Logits `(n, classes)`; `(n,)` or `(n, 1)` are those of the second of two classes, beside a 0.
        temperature: $T$, above 0.

    Returns:
        Scores `(n,)` in float64, the higher the more the input is like the training data; further axes before the
        classes stay.

    Raises:
        ValueError: If logits are not finite or are probabilities, or `temperature` is not above 0.

    Cost: a pass over the logits.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.analysis.energy_score(np.array([[9.0, 1.0], [1.0, -7.0]]))  # 9.0003 and 1.0003, of equal probabilities.
    ```

    Reference: Weitang Liu, Xiaoyun Wang, John D. Owens and Yixuan Li, *Energy-based Out-of-distribution
    Detection*, NeurIPS 2020, arXiv:2010.03759.
    """
    temperature = check_number("temperature", temperature, above=0)
    z = check_logits(both_classes(as_scores(logits), True)) / temperature
    top = z.max(axis=-1)
    return temperature * (top + np.log(np.exp(z - top[..., None]).sum(axis=-1)))
