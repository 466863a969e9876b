"""Methods of representation learning as a pair of neighbour distributions, by name."""

from collections.abc import Callable
from typing import Any

from keras_regularize.losses.contrastive.neighbors import (
    ClassNeighbors,
    ClusterNeighbors,
    CutNeighbors,
    GaussianNeighbors,
    IdentityNeighbors,
    KNNNeighbors,
    LabelNeighbors,
    LogitNeighbors,
    PrecomputedNeighbors,
    StudentTNeighbors,
)


def _pair(supervisory, learned, **others):
    return {"supervisory": supervisory, "learned": learned, **others}


def _usual(supervisory, learned):
    """A pair whose usual value is the cross-entropy."""
    return _pair(supervisory, learned, divergence="cross_entropy")


def _cosine(temperature):
    return GaussianNeighbors(temperature, "cosine")


def _t_cosine(scale):
    return StudentTNeighbors(scale=scale, metric="cosine")


def _sne(perplexity=30.0, temperature=1.0):
    return _pair(GaussianNeighbors(perplexity=perplexity), GaussianNeighbors(temperature))


def _tsne(perplexity=30.0, degrees_of_freedom=1.0):
    return _pair(GaussianNeighbors(perplexity=perplexity), StudentTNeighbors(degrees_of_freedom))


def _dual_tsne(degrees_of_freedom=1.0, temperature=1.0):
    return _pair(StudentTNeighbors(degrees_of_freedom), GaussianNeighbors(temperature))


def _doubly_tsne(degrees_of_freedom=1.0):
    return _pair(StudentTNeighbors(degrees_of_freedom), StudentTNeighbors(degrees_of_freedom))


def _uniform_sne(k=15, temperature=1.0):
    return _pair(KNNNeighbors(k), GaussianNeighbors(temperature))


def _uniform_tsne(k=15, degrees_of_freedom=1.0):
    return _pair(KNNNeighbors(k), StudentTNeighbors(degrees_of_freedom))


def _graph_embedding(temperature=1.0):
    return _pair(PrecomputedNeighbors(), GaussianNeighbors(temperature))


def _pca(temperature=1e3):
    return _usual(IdentityNeighbors(), GaussianNeighbors(temperature, exclude_self=False))


def _simclr(temperature=0.1):
    return _usual(LabelNeighbors(), _cosine(temperature))


def _t_simclr(scale=1.0):
    return _usual(LabelNeighbors(), _t_cosine(scale))


def _clip(temperature=0.07):
    return _usual(IdentityNeighbors(), GaussianNeighbors(temperature, "cosine", cross_view=True))


def _moco(temperature=0.2):
    return _clip(temperature)


def _lgsimclr(k=1, temperature=0.1):
    return _usual(KNNNeighbors(k, "cosine"), _cosine(temperature))


def _x_sample(supervisory_temperature=0.1, temperature=0.1):
    return _usual(_cosine(supervisory_temperature), _cosine(temperature))


def _supcon(temperature=0.07):
    return _usual(LabelNeighbors(), _cosine(temperature))


def _vicreg(temperature=1e3):
    return _usual(LabelNeighbors(), GaussianNeighbors(temperature))


def _triplet(temperature=1e-2):
    return _usual(LabelNeighbors(), GaussianNeighbors(temperature))


def _cross_entropy(num_classes, temperature=1.0):
    return _usual(ClassNeighbors(num_classes), LogitNeighbors(temperature))


def _harmonic(num_classes):
    return _usual(ClassNeighbors(num_classes), LogitNeighbors())


def _kmeans(temperature=1.0, from_logits=False):
    return _pair(
        GaussianNeighbors(temperature, exclude_self=False),
        ClusterNeighbors(from_logits),
        divergence="reverse_kl",
    )


def _normalized_cuts(temperature=0.1, from_logits=False):
    return _pair(CutNeighbors(temperature), ClusterNeighbors(from_logits), divergence="reverse_kl")


def _dcd(from_logits=False):
    return _pair(PrecomputedNeighbors(), ClusterNeighbors(from_logits))


def _infonce_clustering(k=3, from_logits=False):
    return _pair(KNNNeighbors(k), ClusterNeighbors(from_logits))


def _supervised_clustering(from_logits=False):
    return _pair(LabelNeighbors(), ClusterNeighbors(from_logits))


PRESETS: dict[str, Callable[..., dict[str, Any]]] = {
    "sne": _sne,
    "tsne": _tsne,
    "dual_tsne": _dual_tsne,
    "doubly_tsne": _doubly_tsne,
    "uniform_sne": _uniform_sne,
    "uniform_tsne": _uniform_tsne,
    "graph_embedding": _graph_embedding,
    "pca": _pca,
    "simclr": _simclr,
    "t_simclr": _t_simclr,
    "clip": _clip,
    "moco": _moco,
    "lgsimclr": _lgsimclr,
    "x_sample": _x_sample,
    "supcon": _supcon,
    "t_supcon": _t_simclr,
    "vicreg": _vicreg,
    "triplet": _triplet,
    "cross_entropy": _cross_entropy,
    "masked_lm": _cross_entropy,
    "harmonic": _harmonic,
    "kmeans": _kmeans,
    "spectral_clustering": _kmeans,
    "normalized_cuts": _normalized_cuts,
    "dcd": _dcd,
    "infonce_clustering": _infonce_clustering,
    "supervised_clustering": _supervised_clustering,
}
