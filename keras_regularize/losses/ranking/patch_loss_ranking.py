"""Which patches of an image are harder than others, learnt from their losses."""

from keras import ops

from keras_regularize.losses._coupled import BatchCoupledLoss, present
from keras_regularize.numerics import upcast
from keras_regularize.registration import export
from keras_regularize.validation import compatible


@export
class PatchLossRanking(BatchCoupledLoss):
    r"""Trains scores to rank the patches of an image as their losses do.

    For losses $\ell$ and scores $s$ of the patches of an image, over all ordered pairs of patches with
    $\ell_i \ne \ell_j$,

    $$-[\ell_i > \ell_j] \log \sigma(s_i - s_j) - [\ell_i < \ell_j] \log(1 - \sigma(s_i - s_j)),$$

    summed over the batch and divided by the number of these pairs in the batch. How large losses are does not
    matter, which changes as a network learns; which one is larger does. It is batch-coupled: the values per sample
    are its pairs' share, and their mean is the formula. Losses have no gradient.

    Args:
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Losses of the patches, `(batch, patches)`; those that are NaN are not known and are in no pair.
        y_pred: Scores `(batch, patches)`.

    Returns:
        With `reduction="none"` one value per sample `(batch,)`, else a scalar. Without any pair it is 0.

    Raises:
        ValueError: If shapes do not fit.

    Cost: a few passes over `batch · patches²` numbers.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    losses, scores = np.random.exponential(size=(2, 8, 16)).astype("float32")
    kr.losses.PatchLossRanking()(losses, scores)
    ```

    Reference: Haochen Wang, Kaiyou Song, Junsong Fan, Yuxi Wang, Jin Xie and Zhaoxiang Zhang, *Hard Patches Mining
    for Masked Image Modeling*, CVPR 2023, arXiv:2304.05919.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "patch_loss_ranking",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def values(self, y_true, y_pred, counted):
        scores = upcast(y_pred)
        losses = ops.stop_gradient(ops.cast(y_true, scores.dtype))
        if len(scores.shape) != 2 or not compatible(losses.shape, scores.shape):
            raise ValueError(
                "`PatchLossRanking` needs losses and scores of one shape, `(batch, patches)`. Received: "
                f"y_true.shape={tuple(losses.shape)}, y_pred.shape={tuple(scores.shape)}"
            )
        here = present(counted, scores[:, 0])
        larger = (
            losses[:, :, None] > losses[:, None, :]
        )  # Of a pair that is unlike one order is so.
        pairs = ops.cast(larger, scores.dtype) * here[:, None, None]
        # Both orders of a pair have the same value.
        values = ops.sum(pairs * ops.softplus(scores[:, None, :] - scores[:, :, None]), axis=(1, 2))
        count, samples = ops.sum(pairs), ops.sum(here)
        return values * samples / ops.where(count > 0, count, 1.0), None
