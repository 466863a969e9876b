"""How far down the first relevant item is."""

from keras import ops

from keras_regularize.metrics.ranking.ranking_metric import RankingMetric, by_rank, discounts
from keras_regularize.registration import export
from keras_regularize.validation import check_integer


@export
class MeanReciprocalRank(RankingMetric):
    r"""Mean over queries of one over the rank of the first relevant item.

    With the relevance $y_{(r)}$ of the item of rank $r$ by its score, its value for a query is

    $$\max_{r:\ y_{(r)} > 0} \frac1r .$$

    A query without relevant items counts as 0, one without any item does not count. Items of equal scores rank in
    the order they are given, so shuffle data that begin with what is relevant.

    Args:
        k: The number of ranks that count, beyond which the value is 0, or `None` for all.
        name: Name of the metric.
        dtype: Dtype of the metric, as in `keras.metrics.Metric`. The state is float32.

    Call arguments:
        y_true: Relevances of the items of each query `(batch, list)` or `(batch, list, 1)`,
            above 0 for what is relevant. A negative one, such as -1, marks padding, which has no rank.
        y_pred: Scores, any numbers, `(batch, list)` or `(batch, list, 1)`. Items that their mask leaves out are
            padding too, but in `fit` on JAX, where Keras hands metrics no mask: a relevance of -1 is sure.
        sample_weight: Weights of queries `(batch,)`, or a scalar. What has weight 0 does not count.

    Returns:
        `result()` is a float32 scalar between 0 and 1, 0 before the first query. A score that is NaN makes it NaN.

    Raises:
        ValueError: If `k` is not positive, or the shapes do not fit.

    Cost: a sort of each list.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    metric = kr.metrics.MeanReciprocalRank()
    relevance = np.array([[3, 0, 1, -1], [0, 0, 1, 2]])  # The first query has three items.
    metric.update_state(relevance, np.random.normal(size=(2, 4)))
    float(metric.result())
    ```

    Reference: Ellen M. Voorhees, *The TREC-8 Question Answering Track Report*, TREC 1999.
    """

    def __init__(
        self,
        k: int | None = None,
        name: str | None = "mean_reciprocal_rank",
        dtype: str | None = None,
    ):
        super().__init__(name, dtype)
        self.k = check_integer("k", k, minimum=1, optional=True)

    def list_values(self, lists):
        relevant = ops.cast(lists.relevance > 0, "float32")
        inverse = discounts(lists, lambda rank: 1.0 / rank, self.k)
        return ops.max(by_rank(lists, relevant) * inverse, axis=-1)
