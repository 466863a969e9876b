"""Cross-entropy of the items that are chosen first."""

from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.losses.ranking.ranking_loss import BELOW, RankingLoss
from keras_regularize.registration import export


@export
class ListNet(RankingLoss):
    r"""Cross-entropy between softmaxes over a list: of the relevances, and of the scores.

    With the relevances $y_i$ and scores $s_i$ of the items of a query, its value is

    $$-\sum_i \frac{e^{y_i}}{\sum_j e^{y_j}} \log \frac{e^{s_i}}{\sum_j e^{s_j}},$$

    in which both are the probabilities that an item is chosen first. Its least value is the entropy of the
    relevances, not 0, and the order of items of equal relevance does not matter.

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

    A query without any item has the value 0.

    Raises:
        ValueError: If the shapes do not fit.

    Cost: two softmaxes.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    relevance = np.array([[3, 0, 1, -1], [0, 0, 1, 2]])  # The first query has three items.
    kr.losses.ListNet()(relevance, np.random.normal(size=(2, 4)))
    ```

    Reference: Zhe Cao and others, *Learning to Rank: From Pairwise Approach to Listwise Approach*, ICML 2007.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "list_net",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def list_values(self, lists):
        log_target, log_p = (
            backend.log_softmax(ops.where(lists.there, x, BELOW))
            for x in (lists.relevance, lists.scores)
        )
        products = ops.where(lists.there, ops.exp(log_target) * log_p, 0.0)
        return -ops.sum(products, axis=-1)
