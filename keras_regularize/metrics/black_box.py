"""How well draws of a discrete generative model match data, without its probabilities."""

import keras
import numpy as np
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.metrics._samples import leave_out, position_weights
from keras_regularize.metrics._sums import accumulate, add_sums, segment_sums, total
from keras_regularize.registration import export
from keras_regularize.validation import check_integer


def square_score(repeats, pairs, matches, comparisons):
    """`Σ p² - 2 Σ p q` from shares of equal draws among pairs of the model, and of model and data."""
    return repeats / pairs - 2.0 * matches / comparisons


@export
class BlackBoxSquare(Configured, keras.metrics.Metric):
    r"""Squared distance of a discrete generative model from the data, from draws of both alone.

    With $x$ drawn from the model $p$ and $t$ from the data $q$, independently,

    $$\frac{1}{n (n - 1)} \sum_{i \ne j} [x_i = x_j] - \frac{2}{n\,m} \sum_{i, j} [x_i = t_j]$$

    is an unbiased estimate of $\|p - q\|^2 - \|q\|^2$, which is smallest for $p = q$: a proper score, for models
    whose probabilities nobody can compute. Over many batches it is the estimate from all draws at once. Negative
    values are usual; a perfect model has $-\sum_k q_k^2$. `kr.generative.black_box_square_loss` is the same
    for outcomes that are no ids.

    With sample weights, pairs count by the products of their weights.

    Args:
        num_categories: Number of outcomes, at least 1; ids are 0 to `num_categories - 1`.
        name: Name of the metric.
        dtype: Dtype of the metric, as in `keras.metrics.Metric`. The state is float32.

    Call arguments:
        y_true: Ids of the data, of any shape. Other ids than those are not counted.
        y_pred: Ids of independent draws from the model, of any shape; not probabilities.
        sample_weight: Weights of the shape of both, one per row, or a scalar. Draws of weight 0 do not count, nor
            do those that the mask of `y_pred` leaves out.

    Returns:
        `result()` is a float32 scalar; of its two terms those without draws are 0. A draw that is NaN
        makes it NaN.

    Raises:
        ValueError: If `num_categories` is not positive.

    Cost: two counts per update, and `num_categories` products for the result.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    metric = kr.metrics.BlackBoxSquare(num_categories=3)
    metric.update_state(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2]))
    score = float(metric.result())
    ```

    Reference: Dhamma Kimpara, Rafael Frongillo and Bo Waggoner, *Proper Losses for Discrete Generative Models*,
    ICML 2023, arXiv:2211.03761. The estimate is this package's own, after their conditions.
    """

    def __init__(
        self,
        num_categories: int,
        name: str | None = "black_box_square",
        dtype: str | None = None,
    ):
        super().__init__(name=name, dtype=dtype)
        self.num_categories = check_integer("num_categories", num_categories, minimum=1)
        # Weights of the data, weights of the model's draws and their squares, by outcome.
        self._sums = add_sums(self, (self.num_categories, 3))

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds draws."""
        data, model = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        # The mask that draws of the model carry is that of the data too if they lie alike.
        alike = _positions(data) == _positions(model)
        data_weight = position_weights(y_pred if alike else y_true, data.shape, sample_weight)
        model_weight = position_weights(y_pred, model.shape, sample_weight)
        counts = [self._count(data, data_weight, 1), self._count(model, model_weight, 2)]
        accumulate(self._sums, ops.concatenate(counts, axis=-1))

    def result(self):
        """The score of the draws so far."""
        data, model, squares = ops.unstack(total(self._sums), 3, axis=-1)
        draws, own = ops.sum(model), ops.sum(squares)
        pairs, comparisons = ops.square(draws) - own, draws * ops.sum(data)
        # Summed by outcome: a lone draw leaves an exact 0.
        repeats = ops.sum(ops.square(model) - squares)
        return square_score(
            ops.where(pairs == 0, 0.0, repeats),
            ops.where(pairs == 0, 1.0, pairs),
            ops.sum(model * data),
            ops.where(comparisons == 0, 1.0, comparisons),
        )

    def _count(self, ids, weight, powers):
        """Sums of the first powers of the weights, by outcome: `(num_categories, powers)`."""
        weights = ops.ones(ops.shape(ids), dtype="float32")
        if keras.backend.is_float_dtype(keras.backend.standardize_dtype(ids.dtype)):
            weights = ops.where(ops.isnan(ids), np.nan, weights)
        weights = ops.reshape(leave_out(weights, weight), (-1,))
        ids = ops.cast(ops.reshape(ids, (-1,)), "int32")
        last = self.num_categories - 1
        unknown = weights != weights  # Whatever integer a NaN became, it has to count.
        known = unknown | (ids >= 0) & (ids <= last)
        weights = ops.where(known, weights, 0.0)
        powers = [weights**power for power in range(1, powers + 1)]
        return segment_sums(powers, ops.clip(ids, 0, last), self.num_categories)


def _positions(ids):
    shape = tuple(ids.shape)
    return shape[:-1] if len(shape) > 1 and shape[-1] == 1 else shape
