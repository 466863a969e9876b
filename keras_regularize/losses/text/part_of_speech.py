"""Supervision of a controller that picks a module for each word."""

from keras import ops

from keras_regularize.labels import check_labels, pick, read_labels, spoil
from keras_regularize.losses._coupled import BatchCoupledLoss
from keras_regularize.losses.text._tokens import check_sequences
from keras_regularize.numerics import log_probabilities
from keras_regularize.registration import export
from keras_regularize.validation import check_integer


@export
class PartOfSpeechLoss(BatchCoupledLoss):
    r"""Cross-entropy between a controller's choice of module and the part of speech of the word.

    Of the $N$ positions, those of padding do not count, and the loss is the mean over the kept ones,

    $$\ell_t = -\frac{N}{|\text{kept}|}\, \big[t \text{ is kept}\big]\, \log w_t(c_t),$$

    so that the plain mean of the values is it. A caption model with a module for each part of speech (function
    words, nouns, verbs, adjectives) learns sooner which one to use; the authors add 0.1 times this loss to that of
    the captions in the first ten epochs. `kr.layers.ModuleController` gives the logits. Without a kept position
    the loss is 0.

    Args:
        ignore_index: Class id of padding, or `None`.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Classes of the words, ids `(batch, time)`.
        y_pred: Logits `(batch, time, modules)`.

    Returns:
        With `reduction="none"` values `(batch, time)`, else a scalar.

    Raises:
        ValueError: If `ignore_index` is no integer, an id is no module, or the shapes do not fit.

    Cost: that of cross-entropy.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.PartOfSpeechLoss()
    loss(np.array([[0, 1, 3, -1]]), np.zeros((1, 4, 4)))  # log 4
    ```

    Reference: Xu Yang, Hanwang Zhang, Chongyang Gao and Jianfei Cai, *Learning to Collocate Visual-Linguistic
    Neural Modules for Image Captioning*, IJCV 2022, arXiv:2210.01338.
    """

    from_logits = True

    def __init__(
        self,
        ignore_index: int | None = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "part_of_speech",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.ignore_index = check_integer("ignore_index", ignore_index, optional=True)

    def values(self, y_true, y_pred, counted):
        labels = read_labels(y_true, y_pred, self.ignore_index)
        kept = here = counted(y_pred.shape[:-1])
        if labels.counted is not None:
            kept = labels.counted if here is None else ops.logical_and(here, labels.counted)
        if kept is not None and labels.outside is not None:
            labels = labels._replace(outside=ops.logical_and(labels.outside, kept))
        labels = check_labels(labels, y_pred)
        ids = check_sequences(labels, y_pred)
        losses = spoil(-pick(log_probabilities(y_pred, from_logits=True), ids), labels)
        if kept is None:
            return losses, None
        ones = ops.ones_like(losses)
        count = ops.sum(ops.where(kept, ones, 0.0))
        total = ops.sum(ones if here is None else ops.where(here, ones, 0.0))
        return ops.where(kept, losses, 0.0) * (total / ops.where(count > 0, count, 1.0)), None
