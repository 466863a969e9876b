"""Likelihood of the order of the relevances."""

from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.losses.ranking.ranking_loss import BELOW, RankingLoss
from keras_regularize.registration import export


@export
class ListMLE(RankingLoss):
    r"""Negative log-likelihood of the right order, if items are drawn one after the other by a softmax of scores.

    With the scores $s_1, \dots, s_L$ of the items of a query in the order of descending relevance, its value is

    $$\sum_{k=1}^{L} \Big( \log \sum_{j=k}^{L} e^{s_j} - s_k \Big).$$

    Only the order of the relevances matters. Items of equal relevance count in the order they are given, so
    shuffle them in the data, or take `ListNet` where many are equal. Long lists have large values.

    Args:
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Relevances of the items of each query `(batch, list)` or `(batch, list, 1)`, integers or not, 0 for
            what is not relevant. A negative one, such as -1, marks padding, which has no part in the value.
        y_pred: Scores, any numbers, `(batch, list)` or `(batch, list, 1)`. Items that their mask leaves out are
            padding too.

    Returns:
        With `reduction="none"` one value per query `(batch,)`, else a scalar. Weights are those of queries.

    Raises:
        ValueError: If the shapes do not fit.

    Cost: a sort of each list and a cumulative sum.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    relevance = np.array([[3, 0, 1, -1], [0, 0, 1, 2]])  # The first query has three items.
    kr.losses.ListMLE()(relevance, np.random.normal(size=(2, 4)))
    ```

    Reference: Fen Xia and others, *Listwise Approach to Learning to Rank: Theory and Algorithm*, ICML 2008.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "list_mle",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def list_values(self, lists):
        # From the least relevant to the most, of which sums of what comes after begin at the first.
        rank = ops.argsort(ops.where(lists.there, -lists.relevance, 1.0), axis=-1)
        order = ops.flip(rank, axis=-1)
        scores = backend.take_last(ops.where(lists.there, lists.scores, BELOW), order)
        # Padding comes first and adds 0: its number is lost in the rounding of its sums.
        return ops.sum(backend.cumulative_logsumexp(scores) - scores, axis=-1)
