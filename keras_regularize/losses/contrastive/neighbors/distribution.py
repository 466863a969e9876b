"""Distributions over neighbours, and their base class."""

from typing import Any, NamedTuple

from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.losses.contrastive._views import FAR, as_weights, diagonal
from keras_regularize.numerics import safe_log


class Distribution(NamedTuple):
    """A distribution over columns for each row, by its logarithms or by itself.

    Attributes:
        there: 1 for a column that can be a neighbour of a row, else 0; `(rows, columns)`.
        log: Log-probabilities, very low where there is none; or `None`.
        p: Probabilities, where logarithms are not given.
    """

    there: Any
    log: Any = None
    p: Any = None

    def probabilities(self) -> Any:
        """The probabilities; a row without neighbours has none."""
        return self.there * ops.exp(self.log) if self.p is None else self.p

    def log_probabilities(self) -> Any:
        """Their logarithms, very low where there is none."""
        if self.p is None:
            return self.log
        positive = self.p > 0
        return ops.where(positive, safe_log(ops.where(positive, self.p, 1.0)), FAR)


class Neighbors(Configured):
    """A distribution over neighbours for each row, made of labels, inputs or features: a base.

    A subclass overrides `distribution`. `losses.ICon` compares one of `y_true` with one of `y_pred`.
    """

    #: Whether a row is never its own neighbour; `None` where columns are no rows.
    exclude_self: bool | None = None
    #: Whether columns are the features of a second view.
    cross_view = False

    def distribution(self, x: Any, here: Any) -> Distribution:
        """The distributions of rows `x`; `here` are bools `(rows,)`, unset where one does not count, or `None`."""
        raise NotImplementedError

    def degrees(self, x: Any, here: Any) -> Any:
        """The weights `(rows,)` that rows have as members of clusters, or `None` for equal ones."""
        return None

    def repeated(self, x: Any, views: int) -> Any:
        """What `distribution` takes for several rows of each sample, next to each other."""
        return ops.repeat(x, views, axis=0)

    def _columns(self, x, here):
        """1 where a column can be a neighbour, `(rows, rows)`."""
        there = 1.0 - diagonal(x) if self.exclude_self else ops.ones_like(diagonal(x))
        return there if here is None else there * as_weights(here, x)[None, :]


def of_weights(weights: Any, there: Any) -> Distribution:
    """The distribution of non-negative weights, rows normalised; a row without any stays without."""
    weights = weights * there
    total = ops.sum(weights, axis=-1, keepdims=True)
    return Distribution(there, p=weights / ops.where(total > 0, total, 1.0))


def of_scores(scores: Any, there: Any) -> Distribution:
    """The softmax of scores over the columns that are there."""
    scores = scores - FAR * (there - 1.0)
    return Distribution(there, scores - ops.logsumexp(scores, axis=-1, keepdims=True))


def column(x):
    """Zeros `(rows, 1)` with a row for each of `x`."""
    x = ops.convert_to_tensor(x)
    first = x[(slice(None), *[0] * (len(x.shape) - 1))]
    return ops.cast(ops.zeros_like(first), "float32")[:, None]
