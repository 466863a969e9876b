"""Neighbours are near in the space of features."""

from typing import Any

from keras import ops

from keras_regularize.losses.contrastive._views import as_weights, diagonal
from keras_regularize.losses.contrastive.neighbors.distribution import (
    Neighbors,
    of_scores,
    of_weights,
)
from keras_regularize.numerics import matmul, maximum, squared_distances, unit_vectors
from keras_regularize.ops.points import feature_rows
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_integer, check_number

METRICS = ("euclidean", "cosine", "dot")
#: Halvings of the interval in which the bandwidth of a perplexity lies.
HALVINGS = 50


@export
class GaussianNeighbors(Neighbors):
    r"""Neighbours by distance: the softmax of $-D_{ij} / T$.

    $$p_{j|i} = \frac{\exp(-D_{ij} / T)}{\sum_k \exp(-D_{ik} / T)}$$

    where $D$ is the squared Euclidean distance, $1 - \cos$ or minus the inner product. A Gaussian of standard
    deviation $\sigma$ has $T = 2 \sigma^2$. With a perplexity each row has its own $T_i$, found by bisection so
    that the entropy of the row is its logarithm, as t-SNE has it; no gradient flows through that.

    Args:
        temperature: $T$, above 0; not used with `perplexity`.
        metric: `"euclidean"`, `"cosine"` or `"dot"`.
        perplexity: Effective number of neighbours, at least 1, or `None`.
        exclude_self: Whether a row is never its own neighbour.
        cross_view: Whether columns are the second views of the samples `(batch, 2, dim)`, and rows the first; both
            directions are averaged. No row is its own neighbour then, and `exclude_self` has no effect.

    Raises:
        ValueError: If an argument is out of range.

    Cost: a product of the rows with themselves and a softmax; a perplexity goes over the products 50 times.

    Example:

    ```python
    import keras_regularize as kr

    sne = kr.losses.ICon(kr.losses.GaussianNeighbors(perplexity=30), kr.losses.GaussianNeighbors())
    ```

    Reference: Geoffrey Hinton and Sam Roweis, *Stochastic Neighbor Embedding*, NIPS 2002.
    """

    def __init__(
        self,
        temperature: float = 1.0,
        metric: str = "euclidean",
        perplexity: float | None = None,
        exclude_self: bool = True,
        cross_view: bool = False,
    ):
        self.temperature = check_number("temperature", temperature, above=0)
        self.metric = check_choice("metric", metric, METRICS)
        self.perplexity = check_number("perplexity", perplexity, minimum=1, optional=True)
        self.exclude_self = bool(exclude_self)
        self.cross_view = bool(cross_view)

    def distribution(self, x, here):
        if self.cross_view:
            rows, others = (feature_rows(view) for view in x)
            there = ops.ones_like(diagonal(rows)) * as_weights(here, rows)[None, :]
        else:
            rows = others = feature_rows(x)
            there = self._columns(rows, here)
        d = squares(rows, others, self.metric)
        if self.perplexity is None:
            return of_scores(-d / self.temperature, there)
        return of_scores(-_with_perplexity(d, there, self.perplexity), there)


@export
class StudentTNeighbors(Neighbors):
    r"""Neighbours by distance with heavy tails, as t-SNE has them.

    $$q_{j|i} \propto \Big(1 + \frac{D_{ij}}{\nu s^2}\Big)^{-(\nu + 1) / 2}$$

    Args:
        degrees_of_freedom: $\nu$, above 0; 1 is t-SNE's.
        scale: $s$, above 0.
        metric: $D$: `"euclidean"` for squared distances, or `"cosine"` for $1 - \cos$.
        exclude_self: Whether a row is never its own neighbour.

    Raises:
        ValueError: If an argument is out of range.

    Cost: a product of the rows with themselves and a softmax.

    Example:

    ```python
    import keras_regularize as kr

    tsne = kr.losses.ICon(kr.losses.GaussianNeighbors(perplexity=30), kr.losses.StudentTNeighbors())
    ```

    Reference: Laurens van der Maaten and Geoffrey Hinton, *Visualizing Data using t-SNE*, JMLR 2008.
    """

    def __init__(
        self,
        degrees_of_freedom: float = 1.0,
        scale: float = 1.0,
        metric: str = "euclidean",
        exclude_self: bool = True,
    ):
        self.degrees_of_freedom = check_number("degrees_of_freedom", degrees_of_freedom, above=0)
        self.scale = check_number("scale", scale, above=0)
        self.metric = check_choice("metric", metric, METRICS[:2])
        self.exclude_self = bool(exclude_self)

    def distribution(self, x, here):
        x = feature_rows(x)
        d = maximum(squares(x, x, self.metric), 0.0)
        relative = d / (self.degrees_of_freedom * self.scale**2)
        scores = -0.5 * (self.degrees_of_freedom + 1.0) * ops.log1p(relative)
        return of_scores(scores, self._columns(x, here))


@export
class KNNNeighbors(Neighbors):
    r"""Neighbours are the $k$ nearest rows, all alike.

    $p_{j|i} = 1 / k$ for these, without gradient; where there are fewer rows, all of them.

    Args:
        k: Number of neighbours, at least 1.
        metric: `"euclidean"`, `"cosine"` or `"dot"`.
        exclude_self: Whether a row is never its own neighbour.

    Raises:
        ValueError: If an argument is out of range.

    Cost: a product of the rows with themselves, whose rows are sorted.

    Example:

    ```python
    import keras_regularize as kr

    clustering = kr.losses.ICon(kr.losses.KNNNeighbors(k=3), "cluster", supervisory_debiasing=0.4)
    ```

    Reference: Shaden Alshammari, John Hershey, Axel Feldmann, William T. Freeman and Mark Hamilton, *I-Con: A
    Unifying Framework for Representation Learning*, ICLR 2025, arXiv:2504.16929.
    """

    def __init__(self, k: int, metric: str = "euclidean", exclude_self: bool = True):
        self.k = check_integer("k", k, minimum=1)
        self.metric = check_choice("metric", metric, METRICS)
        self.exclude_self = bool(exclude_self)

    def distribution(self, x, here):
        x = ops.stop_gradient(feature_rows(x))
        there = self._columns(x, here)
        d = ops.where(there > 0, squares(x, x, self.metric), float("inf"))
        # Ranks, not `top_k`: a batch may have fewer rows than neighbours are wanted.
        rank = ops.argsort(ops.argsort(d, axis=-1), axis=-1)
        return of_weights(ops.cast(rank < self.k, there.dtype), there)


def squares(x: Any, y: Any, metric: str) -> Any:
    """What is small between near rows: squared distances, `1 - cos` or minus the products."""
    if metric == "euclidean":
        return squared_distances(x, y)
    if metric == "dot":
        return -matmul(x, ops.transpose(y))
    return 1.0 - matmul(unit_vectors(x), ops.transpose(unit_vectors(y)))


def _with_perplexity(d, there, perplexity):
    """Distances times a factor per row, by which the entropy of their softmax is `log(perplexity)`."""
    fixed = ops.stop_gradient(d)
    nearest = ops.min(ops.where(there > 0, fixed, float("inf")), axis=-1, keepdims=True)
    nearest = ops.where(nearest < float("inf"), nearest, 0.0)
    count = maximum(ops.sum(there, axis=-1, keepdims=True), 1.0)
    size = ops.sum(there * (fixed - nearest), axis=-1, keepdims=True) / count
    size = ops.where(size > 0, size, 1.0)
    relative = ops.where(there > 0, (fixed - nearest) / size, 1e20)
    wanted = ops.log(ops.convert_to_tensor(perplexity, dtype=fixed.dtype))

    def halve(_, bounds):
        low, high = bounds
        middle = 0.5 * (low + high)
        scores = -ops.exp(middle) * relative
        weights = ops.exp(scores)  # Of the nearest it is 1.
        total = ops.sum(weights, axis=-1, keepdims=True)
        gap = ops.sum(weights * scores, axis=-1, keepdims=True) / total
        wide = ops.log(total) - gap > wanted
        return ops.where(wide, middle, low), ops.where(wide, high, middle)

    zero = ops.zeros_like(nearest)
    low, high = ops.fori_loop(0, HALVINGS, halve, (zero - 20.0, zero + 30.0))
    return (d - nearest) * ops.stop_gradient(ops.exp(0.5 * (low + high)) / size)
