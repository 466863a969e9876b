"""Discounted cumulative gain over the largest there could be."""

import math

from keras import ops

from keras_regularize.metrics.ranking.ranking_metric import (
    RankingMetric,
    by_rank,
    discounts,
    ratio,
)
from keras_regularize.registration import export
from keras_regularize.validation import check_integer


@export
class NDCG(RankingMetric):
    r"""Normalized discounted cumulative gain: how well scores rank graded items, the first ranks foremost.

    With the relevance $y_{(r)}$ of the item of rank $r$ by its score, its value for a query is

    $$\frac{\mathrm{DCG}}{\mathrm{IDCG}}, \qquad
      \mathrm{DCG} = \sum_{r=1}^{k} \frac{2^{y_{(r)}} - 1}{\log_2 (r + 1)},$$

    where IDCG is the DCG of the right order. A query without relevant items counts as 0, one without any item does
    not count. Items of equal scores rank in the order they are given, so shuffle data that begin with what is
    relevant. Without such items this is `sklearn.metrics.ndcg_score` of the gains $2^y - 1$, which takes the mean
    over their orders.

    Args:
        k: The number of ranks that count, or `None` for all.
        name: Name of the metric.
        dtype: Dtype of the metric, as in `keras.metrics.Metric`. The state is float32.

    Call arguments:
        y_true: Relevances of the items of each query `(batch, list)` or `(batch, list, 1)`,
            0 for what is not relevant, in grades such as 0 to 4. A negative one, such as -1, marks padding, which
            has no rank.
        y_pred: Scores, any numbers, `(batch, list)` or `(batch, list, 1)`. Items that their mask leaves out are
            padding too, but in `fit` on JAX, where Keras hands metrics no mask: a relevance of -1 is sure.
        sample_weight: Weights of queries `(batch,)`, or a scalar. What has weight 0 does not count.

    Returns:
        `result()` is a float32 scalar between 0 and 1, 0 before the first query. A score that is NaN makes it NaN.

    Raises:
        ValueError: If `k` is not positive, or the shapes do not fit.

    Cost: two sorts of each list.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    metric = kr.metrics.NDCG(k=3)
    relevance = np.array([[3, 0, 1, -1], [0, 0, 1, 2]])  # The first query has three items.
    metric.update_state(relevance, np.random.normal(size=(2, 4)))
    float(metric.result())
    ```

    Reference: Kalervo Järvelin, Jaana Kekäläinen, *Cumulated Gain-Based Evaluation of IR Techniques*, ACM
    Transactions on Information Systems 2002.
    """

    def __init__(
        self,
        k: int | None = None,
        name: str | None = "ndcg",
        dtype: str | None = None,
    ):
        super().__init__(name, dtype)
        self.k = check_integer("k", k, minimum=1, optional=True)

    def list_values(self, lists):
        gains = ops.expm1(math.log(2.0) * lists.relevance)
        weights = discounts(lists, lambda rank: math.log(2.0) / ops.log1p(rank), self.k)
        best = ops.sum(-ops.sort(-gains, axis=-1) * weights, axis=-1)
        return ratio(ops.sum(by_rank(lists, gains) * weights, axis=-1), best)
