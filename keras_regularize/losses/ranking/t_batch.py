"""Squared error of predicted embeddings that counts interactions alike, however small their batch."""

from typing import Any

from keras import ops

from keras_regularize.losses.loss import Loss
from keras_regularize.numerics import mean
from keras_regularize.registration import export
from keras_regularize.targets import align_targets
from keras_regularize.validation import check_choice


@export
class TBatch(Loss):
    r"""Squared error for batches of unlike sizes, as those of `utils.t_batches`: a sum, and not a mean.

    With $n$ interactions in a batch, predictions $\hat z$ and targets $z$ of $d$ dimensions,

    $$\text{item_sum:}\; \sum_{k=1}^n \frac1d \|\hat z_k - z_k\|^2, \qquad
      \text{full_sum:}\; \sum_{k=1}^n \|\hat z_k - z_k\|^2, \qquad
      \text{mean:}\; \frac1{nd} \sum_{k=1}^n \|\hat z_k - z_k\|^2.$$

    Where the losses of several batches are added up, with the mean an interaction counts the more the fewer there
    are in its batch: those of very active users, who are in many small batches, outweigh all others. With a sum a
    division into other batches changes nothing. Beside smoothness terms that are means, *full_sum* weighs $d$
    times as much as *item_sum*. Targets have no gradient.

    Args:
        mode: `"item_sum"`, `"full_sum"`, or `"mean"` as in the original method.
        reduction: Not used, `mode` says it; the loss is always a scalar.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Embeddings `(batch, dim)`.
        y_pred: Predicted embeddings `(batch, dim)`.
        sample_weight: Weights `(batch,)`; of 0 for padding.

    Returns:
        A scalar.

    Raises:
        ValueError: If `mode` is another, or shapes do not fit.

    Cost: a few passes over the embeddings.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    z, predicted = np.random.normal(size=(2, 16, 8)).astype("float32")
    loss = kr.losses.TBatch()
    loss(z, predicted)  # That of the first ten and of the last six, added up.
    ```

    Reference: Erfan Loghmani and MohammadAmin Fazli, *Effect of Choosing Loss Function when Using T-batching for
    Representation Learning on Dynamic Networks*, 2023, arXiv:2308.06862.
    """

    def __init__(
        self,
        mode: str = "item_sum",
        reduction: str | None = None,
        name: str | None = "t_batch",
        dtype: str | None = None,
    ):
        self.mode = check_choice("mode", mode, ("item_sum", "full_sum", "mean"))
        super().__init__(
            name=name, reduction="sum_over_batch_size" if mode == "mean" else "sum", dtype=dtype
        )

    def call(self, y_true: Any, y_pred: Any) -> Any:
        targets, predicted = align_targets(y_true, y_pred)
        squares = ops.square(predicted - ops.stop_gradient(targets))
        squares = squares[:, None] if len(squares.shape) == 1 else squares
        total = ops.sum if self.mode == "full_sum" else mean
        return total(squares, axis=-1)
