"""Class weights from effective numbers of samples."""

from collections.abc import Sequence

import numpy as np

from keras_regularize.losses.imbalance._counts import check_counts
from keras_regularize.validation import check_number


def class_balanced_weights(class_counts: Sequence[float], beta: float = 0.9999) -> np.ndarray:
    r"""Class weights by the effective number of samples, between none and inverse frequency.

    $$w_k \propto \frac{1 - \beta}{1 - \beta^{n_k}}, \qquad \sum_k w_k = K.$$

    Samples of a class overlap, so $n$ of them are worth $(1 - \beta^n) / (1 - \beta)$. $\beta = 0$ gives equal
    weights, $\beta \to 1$ inverse frequencies. For deferred reweighting (LDAM-DRW), train without weights for the
    first 80 % of the epochs and with these for the rest.

    Args:
        class_counts: Training samples $n_k$ of each class, a list of positive numbers.
        beta: $\beta$ in `[0, 1]`: 0.9 to 0.9999, the larger the more samples there are. 1 stands for the limit.

    Returns:
        A float64 array of one weight per class, with mean 1.

    Raises:
        ValueError: If an argument is out of its range.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.repeat([0, 1, 2], [50, 10, 4])
    weights = kr.losses.class_balanced_weights(np.bincount(y))
    model = keras.Sequential([keras.layers.Dense(3)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, class_weight=dict(enumerate(weights)), verbose=0)
    ```

    Reference: Yin Cui, Menglin Jia, Tsung-Yi Lin, Yang Song and Serge Belongie, *Class-Balanced Loss Based on
    Effective Number of Samples*, CVPR 2019, arXiv:1901.05555.
    """
    counts = np.asarray(check_counts(class_counts), "float64")
    check_number("beta", beta, minimum=0, maximum=1)
    if beta == 0:
        weights = np.ones_like(counts)
    elif beta == 1:
        weights = 1.0 / counts
    else:
        weights = -1.0 / np.expm1(counts * np.log(beta))
    return weights * (len(weights) / weights.sum())
