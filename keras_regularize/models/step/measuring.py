"""What becomes of labels and outputs: columns of `y`, unlabelled rows, the loss and the metrics."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops, tree

from keras_regularize.autodiff.compiled_losses import CONTAINERS
from keras_regularize.autodiff.functional import compute_loss
from keras_regularize.models.step.columns import update_column_metric
from keras_regularize.models.step.hooks import Hooks
from keras_regularize.models.step.inside import (
    LABEL,
    Unmoved,
    metrics_inside,
    output_structure,
    overrides,
    takes_label,
)
from keras_regularize.models.step.unlabelled import mask_unlabelled, mask_unlabelled_outputs


class Measuring(Hooks):
    """Computes loss and metrics as the wrapped model does, from the labels alone."""

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        y, _ = self.split_columns(y)
        sample_weight, _ = self.split_columns(sample_weight)
        y, sample_weight = self.mask_unlabelled(y, y_pred, sample_weight, rescale=True)
        base = self.innermost
        if not overrides(base, "compute_loss"):
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        return compute_loss(base, x, y, y_pred, sample_weight, training)

    @property
    def computes_own_loss(self) -> bool:
        """Whether `compute_loss` is not that of Keras, so that no loss per sample is known."""
        own = type(self).compute_loss is not Measuring.compute_loss
        return own or overrides(self.innermost, "compute_loss")

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        y, columns = self.split_columns(y)
        sample_weight, _ = self.split_columns(sample_weight)
        y, sample_weight = self.mask_unlabelled(y, y_pred, sample_weight)
        for metric in self._column_metrics:
            update_column_metric(metric, y, y_pred, sample_weight, columns)
        if not overrides(self.innermost, "compute_metrics"):
            return super().compute_metrics(x, y, y_pred, sample_weight)
        logs = dict(self.innermost.compute_metrics(x, y, y_pred, sample_weight))
        one = ops.ones((1, 1))
        super().compute_metrics(None, one, one)  # Only builds, see `Unmoved`.
        if "loss" in logs:
            logs["loss"] = self.metrics[0].result()
        return {**logs, **{metric.name: metric.result() for metric in self._column_metrics}}

    def get_metrics_result(self) -> dict[str, Any]:
        results = super().get_metrics_result()
        results.pop(Unmoved.NAME, None)
        if "loss" in results:  # Also the name of a tracker that the model inside was compiled with.
            loss, known = self.metrics[0].result(), results["loss"]
            results["loss"] = (
                float(loss) if isinstance(known, float) else loss
            )  # As Keras has others.
        return results

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Those of Keras and of the wrapped model itself, and during `evaluate` what only it measures."""
        if not self._evaluating and not self._has_metrics_inside:
            return super().metrics  # Nothing more is done with it, for the sake of `torch.compile`.
        metrics = super().metrics
        known = {id(metric) for metric in metrics}
        inside = metrics_inside(self.innermost) if self._has_metrics_inside else []
        metrics = [*metrics, *(metric for metric in inside if id(metric) not in known)]
        return [*metrics, self.outermost_evaluation().metric] if self._evaluating else metrics

    def _logs(self, loss, x, y, outputs, sample_weight, size=None):
        """Updates the metrics, of which the first is the tracker of the loss; their results."""
        if size is None:
            size = ops.shape(next(leaf for leaf in tree.flatten(x) if leaf is not None))[0]
        self.metrics[0].update_state(loss, sample_weight=size)
        return self.compute_metrics(x, y, outputs, sample_weight)

    def mask_unlabelled(
        self, y: Any, outputs: Any, sample_weight: Any, rescale: bool = False
    ) -> tuple[Any, Any]:
        """Labels and weights without the unlabelled rows of a semi-supervised model; as they are for others.

        With `rescale`, the weights turn a mean over all rows into the mean over labelled ones. Of several outputs
        each with a loss has unlabelled rows of its own.
        """
        if not self.is_semi_supervised():
            return y, sample_weight
        if isinstance(outputs, CONTAINERS) or isinstance(y, CONTAINERS):
            if y is None or self.computes_own_loss:  # Which alone knows what is whose label.
                return y, sample_weight
            return mask_unlabelled_outputs(self, y, outputs, sample_weight, rescale)
        return mask_unlabelled(y, outputs, sample_weight, rescale)

    def split_columns(self, y: Any) -> tuple[Any, dict[str, Any]]:
        """`(label, other columns)` of what was passed as `y`; sample weights too.

        Beside a dictionary of columns, Keras repeats the sample weights for each.
        """
        if not isinstance(y, Mapping) or LABEL not in y or self._takes_label():
            return y, {}
        return y[LABEL], {n: column for n, column in y.items() if n != LABEL}

    def _takes_label(self):
        base = self.innermost
        reads = self._column_metrics or any(wrapper.reads_columns for wrapper in self.wrappers())
        structure = output_structure(base)
        if structure is None:
            structure = self._outputs_seen
        return takes_label(base, getattr(self, "loss", None), structure, bool(reads))
