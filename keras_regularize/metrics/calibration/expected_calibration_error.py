"""How far a classifier's confidence is from its accuracy."""

import keras
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.configuration import Configured
from keras_regularize.metrics._samples import check_ignored, leave_out
from keras_regularize.metrics._sums import (
    accumulate,
    add_sums,
    in_silence,
    numpy_or_ops,
    segment_sums,
    total,
)
from keras_regularize.metrics.calibration._probabilities import class_samples
from keras_regularize.metrics.calibration._reservoir import Reservoir
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_integer


@export
class ExpectedCalibrationError(Configured, keras.metrics.Metric):
    r"""Expected calibration error: the mean gap between confidence and accuracy over bins.

    A classifier is calibrated if, among the samples to which it gives probability 0.8, 80 % are
    right. With the confidence $c_i = \max_k p_{ik}$ and the hit $h_i = [\arg\max_k p_{ik} = y_i]$
    of each sample, sorted into bins $b$ by confidence, and $w_b$ a bin's share of all samples,

    $$\text{gap}_b = |\bar c_b - \bar h_b|, \qquad
      \text{ECE} = \sum_b w_b\,\text{gap}_b, \qquad
      \text{RMS} = \sqrt{\textstyle\sum_b w_b\,\text{gap}_b^2}, \qquad
      \text{MCE} = \max_b \text{gap}_b .$$

    Empty bins do not count. With `classwise=True` the same is done for every class $k$ with
    $c_i = p_{ik}$ and $h_i = [y_i = k]$, and averaged over the classes: the static calibration
    error, which also sees the probabilities of classes that were not predicted.

    Uniform bins split $[0, 1]$ evenly and are closed on the right. The state is the sums per bin,
    so the result over many batches equals the one over all samples at once. Quantile bins hold
    equal numbers of samples, which needs the samples themselves: the metric keeps up to `capacity`
    of them. It is exact while they all fit; beyond, it is the value of a uniform random subset of
    that size, chosen by reservoir sampling.

    Args:
        num_bins: Number of bins, a positive integer.
        binning: `"uniform"` or `"quantile"`.
        norm: `"l1"` (ECE), `"l2"` (root mean square) or `"max"` (maximum calibration error).
        classwise: Whether to average over classes instead of looking at the predicted class alone.
        from_logits: Whether `y_pred` are logits. They go through a softmax, or a sigmoid if there
            is one column.
        capacity: Number of samples kept for quantile bins, a positive integer; unused for uniform
            ones.
        name: Name of the metric.
        dtype: Dtype of the metric, as in `keras.metrics.Metric`. The state is float32.
        ignore_class: Class id of samples that do not count, such as -1 or 255 for pixels without a
            label, as in `keras.losses.SparseCategoricalCrossentropy`. For ids only.

    Call arguments:
        y_true: Class ids `(batch,)` or `(batch, 1)`, or one-hot or soft rows `(batch, classes)`, of
            which the largest entry is the label. Further axes before the classes are positions. An id
            that is no class is an error where it can be looked at; in compiled code the result is NaN.
        y_pred: Probabilities or logits `(batch, classes)`. A vector `(batch,)` or one column
            `(batch, 1)` is the score of class 1.
        sample_weight: Weights, a scalar, `(batch,)`, or one per position. Samples of weight 0 do
            not count, nor do those that the mask of the predictions leaves out. Quantile bins hold
            equal numbers of samples whatever their weights.

    Returns:
        `result()` is a float32 scalar between 0 and 1, and 0 before the first sample. The sums lose
        nothing over hundreds of millions of samples. A prediction that is NaN makes it NaN.

    Raises:
        ValueError: If an argument is out of its range, if labels are no classes, if the shapes of
            labels, predictions and weights do not fit, or if the number of classes changes between two
            updates of a classwise metric.

    Cost: a few passes over the predictions per update; one sort of `capacity` numbers per result
    for quantile bins (per class if classwise). With `tf.distribute`, quantile bins see the samples
    of the first replica.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.random.randint(0, 3, size=64)
    model = keras.Sequential([keras.layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    metric = kr.metrics.ExpectedCalibrationError(from_logits=True)
    model.compile("adam", loss=loss, metrics=["accuracy", metric])
    model.fit(x, y, verbose=0)

    metric = kr.metrics.ExpectedCalibrationError(from_logits=True)  # on arrays
    metric.update_state(y, model.predict(x, verbose=0))
    ece = float(metric.result())
    ```

    Reference: Chuan Guo and others, *On Calibration of Modern Neural Networks*, ICML 2017, arXiv:1706.04599.
    Quantile bins, classwise errors and norms: Jeremy Nixon and others, *Measuring Calibration in Deep
    Learning*, 2019, arXiv:1904.01685.
    """

    def __init__(
        self,
        num_bins: int = 15,
        binning: str = "uniform",
        norm: str = "l1",
        classwise: bool = False,
        from_logits: bool = False,
        capacity: int = 10_000,
        name: str | None = "expected_calibration_error",
        dtype: str | None = None,
        ignore_class: int | None = None,
    ):
        super().__init__(name=name, dtype=dtype)
        self.num_bins = check_integer("num_bins", num_bins, minimum=1)
        self.binning = check_choice("binning", binning, ("uniform", "quantile"))
        self.norm = check_choice("norm", norm, ("l1", "l2", "max"))
        self.classwise = bool(classwise)
        self.from_logits = bool(from_logits)
        self.capacity = check_integer("capacity", capacity, minimum=1)
        self.ignore_class = check_ignored(ignore_class)
        self._groups: int | None = None
        if not self.classwise:
            self._build(1)

    def _build(self, groups):
        """Creates the state for `groups` confidences per sample: one per class, or the top one."""
        self._groups = groups
        if self.binning == "uniform":
            # Weight, and weighted confidence minus hit, per bin.
            self._sums = add_sums(self, (groups * self.num_bins, 2))
            return

        # A row per kept sample: weight, hit (label if classwise) and confidences.
        self._reservoir = Reservoir(self, self.capacity, 2 + groups)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds samples."""
        confidence, hit, weight = self._samples(y_true, y_pred, sample_weight)
        groups = confidence.shape[1] if self.classwise else 1
        if self._groups is None:
            self._build(groups)
        if self._groups != groups:
            raise ValueError(
                f"This metric was updated with {self._groups} classes before. "
                f"Received: y_pred with {groups} classes"
            )
        if self.binning == "uniform":
            module = numpy_or_ops(confidence)
            with in_silence(confidence):
                bins = module.array(module.ceil(confidence * self.num_bins), dtype="int32") - 1
            if self.classwise:  # Else the sums take what is outside into the first and last bin.
                bins = module.clip(bins, 0, self.num_bins - 1)
            accumulate(self._sums, self._sum_bins(confidence, hit, weight, bins))
        else:
            if weight is None:
                weight = ops.ones_like(confidence if groups == 1 else confidence[:, 0])
            self._reservoir.add([weight, hit, confidence], weight > 0)

    def result(self):
        """The calibration error of the samples so far."""
        if self._groups is None:
            return ops.zeros((), dtype="float32")
        sums = total(self._sums) if self.binning == "uniform" else self._quantile_sums()
        sums = ops.reshape(sums, (self._groups, self.num_bins, 2))
        weight, gap = sums[..., 0], ops.absolute(sums[..., 1])
        gap = gap / _nonzero(weight)
        share = weight / _nonzero(ops.sum(weight, axis=-1, keepdims=True))
        if self.norm == "l1":
            error = ops.sum(share * gap, axis=-1)
        elif self.norm == "l2":
            error = ops.sqrt(ops.sum(share * ops.square(gap), axis=-1))
        else:
            error = ops.max(gap, axis=-1)
        return ops.mean(error)

    def _samples(self, y_true, y_pred, sample_weight):
        """Confidences `(n,)` and hits, or `(n, classes)` and labels `(n, 1)` if classwise; weights or `None`."""
        p, ids, weight = class_samples(
            y_true, y_pred, sample_weight, self.from_logits, self.ignore_class
        )
        if not self.classwise:
            confidence, predicted, ids = backend.looked_at([*backend.largest(p), ids])
            return confidence, predicted == ids, weight
        if weight is None:
            p, ids = backend.looked_at([p, ids])
        return p, ids[:, None], weight

    def _quantile_sums(self):
        """Sums per bin over the kept samples, split by rank as `numpy.array_split` splits them."""
        rows, kept = self._reservoir.rows(), self._reservoir.count()
        weight, hit, confidence = rows[:, 0], ops.cast(rows[:, 1:2], "int32"), rows[:, 2:]
        position = ops.arange(self.capacity, dtype="int32")
        # Empty slots have weight 0 and sort last.
        key = ops.where((position < kept)[:, None], confidence, 2.0)
        order = ops.argsort(key, axis=0)

        size, larger = kept // self.num_bins, kept % self.num_bins
        border = larger * (size + 1)
        bins = ops.where(
            position < border,
            position // (size + 1),
            larger + (position - border) // ops.maximum(size, 1),
        )
        # The bin of each sample instead of the samples of each bin: the inverse permutation.
        bins = ops.take(bins, ops.argsort(order, axis=0), axis=0)
        return self._sum_bins(confidence, hit, weight, ops.clip(bins, 0, self.num_bins - 1))

    def _sum_bins(self, confidence, hit, weight, bins):
        """Sums of weight, and of weighted confidence minus hit, `(groups · bins, 2)`."""
        module = numpy_or_ops(confidence)
        if self.classwise:
            group = module.arange(self._groups, dtype="int32")
            hit, bins = module.equal(hit, group), bins + self.num_bins * group
        gap = confidence - module.array(hit, dtype="float32")
        if weight is None:
            weight = module.ones_like(gap)
        else:
            weight = weight if len(gap.shape) == 1 else weight[:, None] * ops.ones_like(gap)
            gap = leave_out(gap, weight)
        return segment_sums([weight, gap], bins, self._groups * self.num_bins)


def _nonzero(x):
    """Divisor of sums that are 0 where `x` is."""
    return ops.where(x > 0, x, 1.0)
