"""An anchor, a positive that should be near and a negative that should be further away."""

from typing import NamedTuple

from keras import ops

from keras_regularize.losses.contrastive._views import ViewsLoss, read_rows
from keras_regularize.numerics import (
    cumsum,
    maximum,
    safe_norm,
    safe_sqrt,
    squared_distances,
    unit_vectors,
)
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_number

MINING = ("hard", "all", "semi_hard")


@export
class Triplet(ViewsLoss):
    r"""Triplet loss: an anchor is nearer to what has its label than to the rest, by a margin.

    With Euclidean distances $d$, positives $p$ of the label of the anchor $a$ and negatives $n$ of others, found
    within the batch,

    | `mining` | $\ell$ |
    |---|---|
    | `"hard"` | $\max(0,\; \max_p d_{ap} - \min_n d_{an} + m)$ of each anchor |
    | `"semi_hard"` | the mean of $\max(0,\; d_{ap} - d_{an} + m)$ over the positives of each anchor |
    | `"all"` | the mean of $d_{ap} - d_{an} + m$ over the triplets of the batch in which it is positive |

    Semi-hard is the nearest negative that is further away than the positive, or the furthest if there is none.
    `"all"` gives one number for the batch, which every sample has as its value. With `margin="soft"` it is
    $\log(1 + e^{d_{ap} - d_{an}})$ in the place of the hinge. An anchor without a positive or without a negative
    contributes 0.

    Hard mining needs clean labels and may collapse at first on hard data; semi-hard does not. Batches should hold
    several samples of each label.

    On several TensorFlow replicas, or in training in several processes of PyTorch, the batch is that of all of
    them, as it is under `keras.distribution` on JAX.

    Args:
        margin: $m \ge 0$, or `"soft"`, not with `mining="all"`.
        mining: Which triplets count, a row of the table.
        normalized: Whether features are divided by their length.
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Class ids `(batch,)` or `(batch, 1)`; `None` for views without labels.
        y_pred: Features `(batch, dim)`, or of several views `(batch, views, dim)`, each an anchor.

    Returns:
        With `reduction="none"` one value per sample `(batch,)`, else a scalar.

    Raises:
        ValueError: If an argument is out of range, or if the shapes do not fit.

    Cost: a product of the features with themselves, $O(B^2 d)$, and $B^2$ numbers. `"hard"` has no gradient
    through these; the others sort each row.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.random.randint(0, 3, size=64)
    model = keras.Sequential([keras.layers.Dense(16, activation="relu"), keras.layers.Dense(8)])
    model.compile("adam", loss=kr.losses.Triplet(margin=0.2))
    model.fit(x, y, batch_size=64, verbose=0)
    ```

    Reference: Alexander Hermans, Lucas Beyer and Bastian Leibe, *In Defense of the Triplet Loss for Person
    Re-Identification*, 2017, arXiv:1703.07737. Semi-hard: Florian Schroff, Dmitry Kalenichenko and James Philbin,
    *FaceNet: A Unified Embedding for Face Recognition and Clustering*, CVPR 2015, arXiv:1503.03832.
    """

    def __init__(
        self,
        margin: float | str = 0.2,
        mining: str = "hard",
        normalized: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "triplet",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.mining = check_choice("mining", mining, MINING)
        if isinstance(margin, str):
            check_choice("margin", margin, ("soft",))
            if mining == "all":
                raise ValueError(
                    '`margin="soft"` has no triplets of value 0, so that `mining="all"` would look at all of '
                    f'them: use "hard" or "semi_hard". Received: margin={margin!r}, mining={mining!r}'
                )
            self.margin: float | str = margin
        else:
            self.margin = check_number("margin", margin, minimum=0)
        self.normalized = bool(normalized)

    def sample_values(self, y_true, z, here):
        rows = read_rows(y_true, z, here)
        x, scale = rows.features, 1.0
        if self.normalized:
            x = unit_vectors(x)
        else:
            size = ops.stop_gradient(ops.max(ops.abs(x)))
            scale = ops.where(size > 1e15, size, 1.0)  # Squares of 1e20 overflow.
            x = x / scale
        pairs = _pairs(rows)
        if self.mining == "hard":
            values = self._hard(x, scale, pairs)
        else:
            distances = scale * safe_sqrt(squared_distances(x, x))
            values = (self._all if self.mining == "all" else self._semi_hard)(distances, pairs)
        return rows.per_sample(values)

    def _price(self, difference):
        if self.margin == "soft":
            return ops.softplus(difference)
        return maximum(difference + self.margin, 0.0)

    def _hard(self, x, scale, pairs):
        fixed = ops.stop_gradient(x)
        squares = squared_distances(fixed, fixed)
        furthest = ops.argmax(ops.where(pairs.positive, squares, -1.0), axis=-1)
        nearest = ops.argmin(ops.where(pairs.negative, squares, float("inf")), axis=-1)
        # Their distances anew: exact, and without a gradient of the size of the batch squared.
        to_positive, to_negative = (
            scale * safe_norm(x - ops.take(x, other, axis=0), axis=-1)
            for other in (furthest, nearest)
        )
        both = ops.logical_and(ops.any(pairs.positive, axis=-1), ops.any(pairs.negative, axis=-1))
        return ops.where(both, self._price(to_positive - to_negative), 0.0)

    def _semi_hard(self, distances, pairs):
        negative = ops.cast(pairs.negative, distances.dtype)
        order = _order(distances, pairs)
        back = ops.argsort(order, axis=-1)
        # How many negatives are nearer than a column: the next in their order is the one to take.
        nearer = ops.take_along_axis(
            cumsum(ops.take_along_axis(negative, order, axis=-1)), back, axis=-1
        )
        number = ops.sum(negative, axis=-1, keepdims=True)
        place = ops.where(nearer < number, nearer, maximum(number - 1.0, 0.0))
        negatives = _order(distances, _Pairs(pairs.negative, pairs.negative))
        chosen = ops.take_along_axis(negatives, ops.cast(place, "int32"), axis=-1)
        to_negative = ops.take_along_axis(distances, chosen, axis=-1)
        counted = ops.logical_and(pairs.positive, number > 0)
        prices = ops.where(counted, self._price(distances - to_negative), 0.0)
        count = ops.sum(ops.cast(counted, prices.dtype), axis=-1)
        return ops.sum(prices, axis=-1) / maximum(count, 1.0)

    def _all(self, distances, pairs):
        """How often each distance occurs in a triplet that counts is found by sorting, not by all triplets."""
        positive, negative = (ops.cast(pair, distances.dtype) for pair in pairs)
        either = positive + negative
        number = maximum(ops.sum(either, axis=-1, keepdims=True), 1.0)
        ends = distances + self.margin * positive
        # Of both ends of a triplet only the difference counts: small numbers lose less.
        middle = ops.sum(ops.stop_gradient(ends) * either, axis=-1, keepdims=True) / number
        ends = ends - middle
        order = _order(ends, pairs)
        kinds, ends = (ops.take_along_axis(x, order, axis=-1) for x in (positive - negative, ends))
        positives, negatives = maximum(kinds, 0.0), maximum(-kinds, 0.0)
        nearer = positives * cumsum(negatives)
        further = negatives * (ops.sum(positives, axis=-1, keepdims=True) - cumsum(positives))
        mean = ops.sum((nearer - further) * ends) / maximum(ops.sum(nearer), 1.0)
        return mean * ops.ones_like(distances[:, 0])


class _Pairs(NamedTuple):
    """Bools `(rows, rows)`: which columns are positives of a row, and which negatives."""

    positive: object
    negative: object


def _pairs(rows):
    number = ops.arange(ops.shape(rows.features)[0])
    ids = number // rows.views if rows.ids is None else rows.ids
    same = ops.equal(ids[:, None], ids[None, :])
    positive = ops.logical_and(same, ops.not_equal(number[:, None], number[None, :]))
    negative = ops.logical_not(same)
    if rows.here is None:
        return _Pairs(positive, negative)
    both = ops.logical_and(rows.here[:, None], rows.here[None, :])
    return _Pairs(ops.logical_and(positive, both), ops.logical_and(negative, both))


def _order(distances, pairs):
    """The order of the columns of each row by distance, those that are no pairs last."""
    either = ops.logical_or(pairs.positive, pairs.negative)
    return ops.argsort(ops.where(either, ops.stop_gradient(distances), float("inf")), axis=-1)
