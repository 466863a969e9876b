"""Neighbours by the weights of a graph."""

from keras import ops

from keras_regularize.losses.contrastive.neighbors.distribution import (
    Neighbors,
    of_scores,
    of_weights,
)
from keras_regularize.ops.points import feature_rows
from keras_regularize.registration import export
from keras_regularize.validation import check_number


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
