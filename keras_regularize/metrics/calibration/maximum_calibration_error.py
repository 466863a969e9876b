"""The largest gap between confidence and accuracy."""

from keras_regularize.metrics.calibration.expected_calibration_error import ExpectedCalibrationError
from keras_regularize.registration import export


@export
class MaximumCalibrationError(ExpectedCalibrationError):
    r"""Maximum calibration error: the largest gap between confidence and accuracy of a bin.

    $$\text{MCE} = \max_b |\bar c_b - \bar h_b|$$

    over the bins $b$ that have samples, with the mean confidence $\bar c_b$ and the share of hits $\bar h_b$ in
    each: `ExpectedCalibrationError` of norm `"max"`. It is the error where wrong confidence is dangerous however
    rare. A bin with few samples has a large gap by chance: take few bins, or those of equal counts.

    Args:
        num_bins: Number of bins, a positive integer.
        binning: `"uniform"` or `"quantile"`, bins of equal counts.
        classwise: Whether to take the mean over classes instead of looking at the predicted class alone.
        from_logits: Whether `y_pred` are logits.
        capacity: Number of samples kept for quantile bins, a positive integer; exact while all of them fit.
        name: Name of the metric.
        dtype: Dtype of the metric, as in `keras.metrics.Metric`. The state is float32.
        ignore_class: Class id of samples that do not count. For ids only.

    Call arguments:
        y_true: Class ids `(batch,)` or `(batch, 1)`, or one-hot or soft rows `(batch, classes)`.
        y_pred: Probabilities or logits `(batch, classes)`; a vector or one column is the score of class 1.
        sample_weight: Weights, a scalar, `(batch,)`, or one per position.

    Returns:
        `result()` is a float32 scalar between 0 and 1, and 0 before the first sample.

    Raises:
        ValueError: As `ExpectedCalibrationError`.

    Cost: that of `ExpectedCalibrationError`.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    metric = kr.metrics.MaximumCalibrationError(num_bins=2)
    metric.update_state([1, 0, 1, 1], np.array([0.9, 0.8, 0.7, 0.4]))  # Probabilities of class 1.
    mce = float(metric.result())  # All in the upper bin: a mean confidence of 0.75, and half of them right.
    ```

    Reference: Mahdi Pakdaman Naeini, Gregory F. Cooper and Milos Hauskrecht, *Obtaining Well Calibrated
    Probabilities Using Bayesian Binning*, AAAI 2015.
    """

    def __init__(
        self,
        num_bins: int = 15,
        binning: str = "uniform",
        classwise: bool = False,
        from_logits: bool = False,
        capacity: int = 10_000,
        name: str | None = "maximum_calibration_error",
        dtype: str | None = None,
        ignore_class: int | None = None,
    ):
        super().__init__(
            num_bins, binning, "max", classwise, from_logits, capacity, name, dtype, ignore_class
        )
