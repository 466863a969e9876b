"""Accuracy against confidence."""

import dataclasses
from typing import Any

import numpy as np

from keras_regularize.analysis.calibration._samples import (
    class_probabilities,
    class_samples,
    uniform_bins,
)
from keras_regularize.validation import check_integer


@dataclasses.dataclass(frozen=True, eq=False)
class ReliabilityDiagram:
    """What `reliability_diagram` measures.

    Attributes:
        edges: Edges of the bins `(num_bins + 1,)`.
        count: Number of samples per bin `(num_bins,)`.
        confidence: Mean confidence per bin; NaN where it is empty.
        accuracy: Share of right predictions per bin; NaN where it is empty.
    """

    edges: np.ndarray
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def expected_calibration_error(self) -> float:
        """Mean gap between confidence and accuracy, as `metrics.ExpectedCalibrationError` has it."""
        gap = np.abs(self.confidence - self.accuracy)
        return float(np.sum(np.where(self.count, self.count * gap, 0.0)) / self.count.sum())

    @property
    def maximum_calibration_error(self) -> float:
        """Largest gap, as `metrics.MaximumCalibrationError` has it."""
        return float(np.nanmax(np.abs(self.confidence - self.accuracy)))

    def plot(self, ax: Any = None) -> Any:
        """Draws the accuracy of every bin, and its gap to the confidence.

        Args:
            ax: Axes of Matplotlib to draw on; `None` for the current ones.

        Returns:
            The axes.
        """
        import matplotlib.pyplot as plt

        ax = plt.gca() if ax is None else ax
        used = self.count > 0
        left, width = self.edges[:-1][used], np.diff(self.edges)[used]
        accuracy, confidence = self.accuracy[used], self.confidence[used]
        options = {"width": width, "align": "edge", "linewidth": 0.5}
        ax.bar(left, accuracy, color="tab:blue", edgecolor="white", label="accuracy", **options)
        ax.bar(
            left,
            confidence - accuracy,
            bottom=accuracy,
            color=(1.0, 0.3, 0.3, 0.4),
            edgecolor="tab:red",
            label="gap",
            **options,
        )
        ax.plot([0, 1], [0, 1], color="gray", linestyle="--", linewidth=1)
        ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy", aspect="equal")
        ax.set_title(f"calibration error {self.expected_calibration_error:.3f}")
        ax.legend(loc="upper left")
        return ax


def reliability_diagram(
    y_true: Any, y_pred: Any, num_bins: int = 15, from_logits: bool = False
) -> ReliabilityDiagram:
    r"""Accuracy against confidence: where a classifier is too sure, and where not sure enough.

    Samples are sorted into bins by their confidence $\max_k p_{ik}$, equal parts of $[0, 1]$ that are closed on
    the right. In a calibrated model the accuracy of each bin is its mean confidence; below it, the model is too
    sure.

    Args:
        y_true: Class ids `(n,)` or `(n, 1)`, or one-hot or soft rows `(n, classes)`, of which the largest entry is
            the label. Further axes before the classes are positions.
        y_pred: Probabilities or logits `(n, classes)`; `(n,)` or `(n, 1)` are those of the second of two classes.
        num_bins: Number of bins, a positive integer.
        from_logits: Whether `y_pred` are logits.

    Returns:
        A frozen dataclass of arrays `edges`, `count`, `confidence` and `accuracy`, with the errors
        `expected_calibration_error` and `maximum_calibration_error`, and `plot(ax=None)`, which needs Matplotlib.

    Raises:
        ValueError: If shapes do not fit, there is no sample, labels are no classes, or probabilities none.

    Cost: a few passes over the predictions.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    y, p = np.random.randint(0, 3, size=500), np.random.dirichlet(np.ones(3), size=500)
    diagram = kr.analysis.reliability_diagram(y, p, num_bins=10)
    print(diagram.accuracy, diagram.expected_calibration_error)  # diagram.plot() draws it.
    ```

    Reference: Morris H. DeGroot and Stephen E. Fienberg, *The Comparison and Evaluation of Forecasters*, The
    Statistician 1983; of networks, Chuan Guo and others, *On Calibration of Modern Neural Networks*, ICML 2017,
    arXiv:1706.04599.
    """
    check_integer("num_bins", num_bins, minimum=1)
    rows, scores = class_samples(y_true, y_pred)
    p = class_probabilities(scores, from_logits)
    confidence, hit = p.max(axis=-1), p.argmax(axis=-1) == rows.argmax(axis=-1)
    bins = uniform_bins(confidence, num_bins)
    count = np.bincount(bins, minlength=num_bins)
    divisor = np.where(count, count, np.nan)
    return ReliabilityDiagram(
        edges=np.linspace(0.0, 1.0, num_bins + 1),
        count=count,
        confidence=np.bincount(bins, confidence, num_bins) / divisor,
        accuracy=np.bincount(bins, hit, num_bins) / divisor,
    )
