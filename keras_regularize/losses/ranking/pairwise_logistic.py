"""Logistic loss of pairs of items."""

import numpy as np
from keras import ops

from keras_regularize.losses.ranking.ranking_loss import RankingLoss
from keras_regularize.numerics import maximum
from keras_regularize.registration import export


@export
class PairwiseLogistic(RankingLoss):
    r"""Logistic loss of all pairs of items of a query of which one is more relevant (RankNet).

    With the relevances $y_i$ and scores $s_i$ of the items of a query, its value is the mean

    $$\operatorname*{mean}_{i, j:\ y_i > y_j} \log \big(1 + e^{-(s_i - s_j)}\big),$$

    and 0 without such a pair. By how much the relevances of a pair differ does not matter.

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

    Cost: the pairs of each query, `batch · list²` numbers in memory: 64 lists of 1000 items are 256 MB in float32,
    a few times over.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    relevance = np.array([[3, 0, 1, -1], [0, 0, 1, 2]])  # The first query has three items.
    kr.losses.PairwiseLogistic()(relevance, np.random.normal(size=(2, 4)))
    ```

    Reference: Chris Burges and others, *Learning to Rank using Gradient Descent*, ICML 2005.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "pairwise_logistic",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def list_values(self, lists):
        y, s, there = lists
        # Padding, of relevance 0, is before nothing.
        before = ops.cast(y[:, :, None] > ops.where(there, y, np.inf)[:, None, :], s.dtype)
        values = ops.softplus(s[:, None, :] - s[:, :, None])
        total = ops.sum(before * values, axis=(1, 2))
        return total / maximum(ops.sum(before, axis=(1, 2)), 1.0)
