"""Class weights of the exponential logarithmic loss."""

from collections.abc import Sequence

import numpy as np

from keras_regularize.losses.imbalance._counts import check_counts
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
def class_weights_from_frequencies(
    frequencies: Sequence[float], exponent: float = 0.5
) -> np.ndarray:
    r"""Class weights that fall with the frequency of a label.

    With frequencies, or counts, $f_k$ of the labels in the training data,

    $$w_k = \Big( \frac{\sum_l f_l}{f_k} \Big)^{\beta}.$$

    Args:
        frequencies: Frequencies or counts $f_k$ of each class, positive numbers.
        exponent: Exponent $\beta \ge 0$; the authors of `losses.ExponentialLogarithmic` use ½.

    Returns:
        A float64 array of one weight per class, each at least 1.

    Raises:
        ValueError: If an argument is out of its range.

    Cost: nothing.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    masks = np.random.choice(3, p=[0.9, 0.08, 0.02], size=(4, 32, 32))
    weights = kr.losses.class_weights_from_frequencies(np.bincount(masks.ravel()))
    kr.losses.ExponentialLogarithmic(class_weights=weights, from_logits=True)
    ```

    Reference: Ken C. L. Wong and others, *3D Segmentation with Exponential Logarithmic Loss for Highly Unbalanced
    Object Sizes*, MICCAI 2018, arXiv:1809.00076.
    """
    counts = np.asarray(check_counts(frequencies), "float64")
    return (counts.sum() / counts) ** check_number("exponent", exponent, minimum=0)
