"""Which neighbours a sample has: conditional distributions over the rows of a batch, or over classes."""

from keras_regularize.losses.contrastive.neighbors.by_distance import (
    GaussianNeighbors,
    KNNNeighbors,
    StudentTNeighbors,
)
from keras_regularize.losses.contrastive.neighbors.by_graph import (
    CutNeighbors,
    PrecomputedNeighbors,
)
from keras_regularize.losses.contrastive.neighbors.by_label import (
    ClassNeighbors,
    ClusterNeighbors,
    IdentityNeighbors,
    LabelNeighbors,
    LogitNeighbors,
)
from keras_regularize.losses.contrastive.neighbors.distribution import Neighbors

__all__ = [
    "ClassNeighbors",
    "ClusterNeighbors",
    "CutNeighbors",
    "GaussianNeighbors",
    "IdentityNeighbors",
    "KNNNeighbors",
    "LabelNeighbors",
    "LogitNeighbors",
    "Neighbors",
    "PrecomputedNeighbors",
    "StudentTNeighbors",
]
