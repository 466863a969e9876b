"""Which neighbours a sample has: conditional distributions over the rows of a batch, or over classes."""

from typing import Any, NamedTuple

from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.labels import label_rows
from keras_regularize.losses.contrastive._views import FAR, as_weights, diagonal, label_ids
from keras_regularize.numerics import (
    matmul,
    maximum,
    minimum,
    safe_log,
    squared_distances,
    unit_vectors,
)
from keras_regularize.ops.points import feature_rows
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_integer, check_number

METRICS = ("euclidean", "cosine", "dot")
#: Halvings of the interval in which the bandwidth of a perplexity lies.
HALVINGS = 50


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


def squares(x: Any, y: Any, metric: str) -> Any:
    """What is small between near rows: squared distances, `1 - cos` or minus the products."""
    if metric == "euclidean":
        return squared_distances(x, y)
    if metric == "dot":
        return -matmul(x, ops.transpose(y))
    return 1.0 - matmul(unit_vectors(x), ops.transpose(unit_vectors(y)))


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
class LabelNeighbors(Neighbors):
    r"""Neighbours are the rows of the same label, or instance, all alike.

    $$p_{j|i} = \frac{[y_j = y_i]}{\sum_k [y_k = y_i]}$$

    A row without another of its label has none.

    Args:
        exclude_self: Whether a row is never its own neighbour.

    Cost: $B^2$ comparisons.

    Example:

    ```python
    import keras_regularize as kr

    supcon = kr.losses.ICon("label", kr.losses.GaussianNeighbors(0.1, "cosine"))
    ```

    Reference: Shaden Alshammari, John Hershey, Axel Feldmann, William T. Freeman and Mark Hamilton, *I-Con: A
    Unifying Framework for Representation Learning*, ICLR 2025, arXiv:2504.16929.
    """

    def __init__(self, exclude_self: bool = True):
        self.exclude_self = bool(exclude_self)

    def distribution(self, x, here):
        ids = label_ids(x, ops.convert_to_tensor(x))
        there = self._columns(_column(ids), here)
        return of_weights(ops.cast(ops.equal(ids[:, None], ids[None, :]), there.dtype), there)


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


@export
class PrecomputedNeighbors(Neighbors):
    r"""Neighbours by the weights of a graph between the samples of a batch.

    $$p_{j|i} = \frac{W_{ij}}{\sum_k W_{ik}}$$

    with `y_true` as $W$, after the diagonal was removed. `kr.utils.neighbor_graph` makes one. Of several views the
    weights are those of their samples: with a positive diagonal the views of a sample are neighbours too.

    Args:
        exclude_self: Whether a row is never its own neighbour.

    Raises:
        ValueError: If the weights are not `(batch, batch)`.

    Cost: a few passes over the weights.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.ICon("precomputed", "gaussian")
    loss(np.random.uniform(size=(8, 8)), np.random.normal(size=(8, 2)))
    ```

    Reference: Shaden Alshammari, John Hershey, Axel Feldmann, William T. Freeman and Mark Hamilton, *I-Con: A
    Unifying Framework for Representation Learning*, ICLR 2025, arXiv:2504.16929.
    """

    def __init__(self, exclude_self: bool = True):
        self.exclude_self = bool(exclude_self)

    def distribution(self, x, here):
        weights = feature_rows(x)
        shape = tuple(weights.shape)
        if None not in shape and shape[0] != shape[1]:
            raise ValueError(
                "`PrecomputedNeighbors` needs a weight for each pair of samples, (batch, batch). "
                f"Received: shape {shape}"
            )
        return of_weights(weights, self._columns(weights, here))

    def repeated(self, x, views):
        return ops.repeat(ops.repeat(x, views, axis=0), views, axis=1)


@export
class CutNeighbors(PrecomputedNeighbors):
    r"""Neighbours by the weights of a graph in relation to degrees, for normalised cuts.

    $$p_{j|i} = \operatorname{softmax}_j\Big(\frac{W_{ij}}{d_j\, T}\Big), \qquad d_j = \sum_k W_{jk}$$

    with `y_true` as the symmetric $W$. Reversed, with `ClusterNeighbors`, whose members then count by their
    degrees, the sum over the batch of the divergence of clusters $c$ is

    $$\frac1T \sum_c \frac{\operatorname{cut}(c)}{\operatorname{vol}(c)}
      + \sum_{ij} q_{j|i} \log q_{j|i} + \text{const.}$$

    of the weights that a cluster's border cuts and of all that it has.

    Args:
        temperature: $T$, above 0: the less, the more the cut counts beside the entropy.

    Raises:
        ValueError: If the weights are not `(batch, batch)`, or `temperature` is not positive.

    Cost: a softmax over the weights.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.ICon.preset("normalized_cuts", from_logits=True)
    weights = np.random.uniform(size=(8, 8))
    loss(weights + weights.T, np.random.normal(size=(8, 2)))
    ```

    Reference: Shaden Alshammari, John Hershey, Axel Feldmann, William T. Freeman and Mark Hamilton, *I-Con: A
    Unifying Framework for Representation Learning*, ICLR 2025, arXiv:2504.16929. The cut: Jianbo Shi and Jitendra
    Malik, *Normalized Cuts and Image Segmentation*, IEEE Transactions on Pattern Analysis and Machine Intelligence
    2000.
    """

    def __init__(self, temperature: float = 0.1):
        super().__init__(exclude_self=False)
        self.temperature = check_number("temperature", temperature, above=0)

    def distribution(self, x, here):
        there = super().distribution(x, here).there
        degrees = self.degrees(x, here)
        some = degrees > 0
        scale = ops.where(some, self.temperature * degrees, 1.0)
        return of_scores(ops.where(some, feature_rows(x) / scale, 0.0), there)

    def degrees(self, x, here):
        weights = feature_rows(x)
        return ops.sum(weights * self._columns(weights, here), axis=-1)


@export
class ClassNeighbors(Neighbors):
    r"""Neighbours are classes: the label of each row, certain or soft.

    $p_{k|i}$ is 1 at the class of row $i$, or its target of class $k$.

    Args:
        num_classes: Number of classes, at least 2.

    Raises:
        ValueError: If `num_classes` is below 2, or labels do not fit.

    Cost: that of a one-hot encoding.

    Example:

    ```python
    import keras_regularize as kr

    crossentropy = kr.losses.ICon(kr.losses.ClassNeighbors(10), "logit", divergence="cross_entropy")
    ```

    Reference: Shaden Alshammari, John Hershey, Axel Feldmann, William T. Freeman and Mark Hamilton, *I-Con: A
    Unifying Framework for Representation Learning*, ICLR 2025, arXiv:2504.16929.
    """

    def __init__(self, num_classes: int):
        self.num_classes = check_integer("num_classes", num_classes, minimum=2)

    def distribution(self, x, here):
        there = 1.0 + _column(x) + ops.zeros((1, self.num_classes), "float32")
        return of_weights(label_rows(x, there), there)


@export
class LogitNeighbors(Neighbors):
    r"""Neighbours are classes, by the softmax of logits.

    $q_{k|i} \propto \exp(z_{ik} / T)$

    Args:
        temperature: $T$, above 0.

    Raises:
        ValueError: If `temperature` is not positive.

    Cost: a softmax.

    Example:

    ```python
    import keras_regularize as kr

    crossentropy = kr.losses.ICon(kr.losses.ClassNeighbors(10), kr.losses.LogitNeighbors())
    ```

    Reference: Shaden Alshammari, John Hershey, Axel Feldmann, William T. Freeman and Mark Hamilton, *I-Con: A
    Unifying Framework for Representation Learning*, ICLR 2025, arXiv:2504.16929.
    """

    def __init__(self, temperature: float = 1.0):
        self.temperature = check_number("temperature", temperature, above=0)

    def distribution(self, x, here):
        x = feature_rows(x)
        return of_scores(x / self.temperature, ops.ones_like(x))


@export
class ClusterNeighbors(Neighbors):
    r"""Neighbours share a cluster: one is drawn of the row's clusters, and then one of its members.

    $$q_{j|i} = \sum_c \frac{\phi_{ic}\, \phi_{jc}}{\sum_k \phi_{kc}}$$

    with $\phi$ the probabilities of clusters. A cluster without members adds nothing; $q$ is clipped to
    `[1e-7, 1]`. With `CutNeighbors`, members count by their degrees.

    Args:
        from_logits: Whether the features are logits of clusters, else probabilities.
        exclude_self: Whether a row is never its own neighbour; rows are normalised again then.

    Cost: a product of the probabilities with themselves.

    Example:

    ```python
    import keras_regularize as kr

    clustering = kr.losses.ICon(kr.losses.KNNNeighbors(3), kr.losses.ClusterNeighbors(from_logits=True))
    ```

    Reference: Shaden Alshammari, John Hershey, Axel Feldmann, William T. Freeman and Mark Hamilton, *I-Con: A
    Unifying Framework for Representation Learning*, ICLR 2025, arXiv:2504.16929.
    """

    def __init__(self, from_logits: bool = False, exclude_self: bool = False):
        self.from_logits = bool(from_logits)
        self.exclude_self = bool(exclude_self)

    def distribution(self, x, here, degrees=None):
        x = feature_rows(x)
        phi = ops.softmax(x, axis=-1) if self.from_logits else x
        there = self._columns(x, here)
        members = phi * as_weights(here, x)[:, None]
        if degrees is not None:
            members = members * ops.cast(degrees, x.dtype)[:, None]
        total = ops.sum(members, axis=0)
        some = total > 0
        shares = ops.where(some, members / ops.where(some, total, 1.0), 0.0)
        q = there * matmul(phi, ops.transpose(shares))
        if self.exclude_self:
            q = q / maximum(ops.sum(q, axis=-1, keepdims=True), 1e-7)
        q = minimum(maximum(q, 1e-7), 1.0)
        return Distribution(there, ops.where(there > 0, ops.log(q), FAR))


@export
class IdentityNeighbors(Neighbors):
    r"""A row's neighbour is itself, in the second of two views or in the only one.

    $p_{j|i} = [i = j]$

    With features of two towers and `GaussianNeighbors(cross_view=True)` this is CLIP; within one view, in the
    limit of wide Gaussians, PCA.

    Cost: that of a unit matrix.

    Example:

    ```python
    import keras_regularize as kr

    clip = kr.losses.ICon("identity", kr.losses.GaussianNeighbors(0.07, "cosine", cross_view=True))
    ```

    Reference: Shaden Alshammari, John Hershey, Axel Feldmann, William T. Freeman and Mark Hamilton, *I-Con: A
    Unifying Framework for Representation Learning*, ICLR 2025, arXiv:2504.16929.
    """

    exclude_self = False

    def distribution(self, x, here):
        x = _column(x)
        return of_weights(diagonal(x), self._columns(x, here))


def _column(x):
    """Zeros `(rows, 1)` with a row for each of `x`."""
    x = ops.convert_to_tensor(x)
    first = x[(slice(None), *[0] * (len(x.shape) - 1))]
    return ops.cast(ops.zeros_like(first), "float32")[:, None]
