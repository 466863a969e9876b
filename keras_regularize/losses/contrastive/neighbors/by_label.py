"""Neighbours have a label or cluster in common, or are classes."""

from keras import ops

from keras_regularize.labels import label_rows
from keras_regularize.losses.contrastive._views import FAR, as_weights, diagonal, label_ids
from keras_regularize.losses.contrastive.neighbors.distribution import (
    Distribution,
    Neighbors,
    column,
    of_scores,
    of_weights,
)
from keras_regularize.numerics import matmul, maximum, minimum
from keras_regularize.ops.points import feature_rows
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


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
        there = self._columns(column(ids), here)
        return of_weights(ops.cast(ops.equal(ids[:, None], ids[None, :]), there.dtype), there)


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
        there = 1.0 + column(x) + ops.zeros((1, self.num_classes), "float32")
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
        x = column(x)
        return of_weights(diagonal(x), self._columns(x, here))
