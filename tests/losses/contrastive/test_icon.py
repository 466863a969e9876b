"""I-Con: each preset is the method whose name it has, and neighbours are who they should be."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_regularize as kr
from keras_regularize.losses import (
    ClassNeighbors,
    ClusterNeighbors,
    GaussianNeighbors,
    ICon,
    IdentityNeighbors,
    InfoNCE,
    KNNNeighbors,
    LabelNeighbors,
    LogitNeighbors,
    NTXent,
    PrecomputedNeighbors,
    StudentTNeighbors,
    SupCon,
)
from keras_regularize.testing._common import fused

RNG = np.random.default_rng(0)
Z = RNG.normal(size=(8, 3))
X = RNG.normal(size=(8, 5))
IDS = np.array([0, 1, 0, 2, 1, 0, 3, 2])
VIEWS = RNG.normal(size=(5, 2, 3))
GRAPH = RNG.uniform(size=(8, 8))
PHI = RNG.dirichlet(np.ones(3), 8)


def value(loss, y, z):
    y = y if y is None or np.asarray(y).dtype.kind == "i" else np.asarray(y, "float32")
    return float(fused(lambda z: loss(y, z))(np.asarray(z, "float32")))


def distances(x, y=None):
    return ((x[:, None] - (x if y is None else y)) ** 2).sum(-1)


def cosines(x):
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return x @ x.T


def softmax(scores, exclude_self=True):
    scores = np.array(scores)
    if exclude_self:
        np.fill_diagonal(scores, -np.inf)
    e = np.exp(scores - scores.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def student(d, power=1.0):
    w = (1 + d) ** -power
    np.fill_diagonal(w, 0)
    return w / w.sum(1, keepdims=True)


def with_perplexity(d, perplexity):
    rows = []
    for i, row in enumerate(d):
        low, high = 1e-6, 1e6
        for _ in range(200):
            beta = np.sqrt(low * high)
            p = np.exp(-beta * (np.delete(row, i) - np.delete(row, i).min()))
            p = p / p.sum()
            entropy = -(p * np.log(np.maximum(p, 1e-300))).sum()
            low, high = (beta, high) if entropy > np.log(perplexity) else (low, beta)
        rows.append(np.insert(p, i, 0))
    return np.array(rows)


def nearest(x, k):
    d = distances(x)
    np.fill_diagonal(d, np.inf)
    p = np.zeros_like(d)
    np.put_along_axis(p, d.argsort(1)[:, :k], 1 / k, axis=1)
    return p


def same_label():
    same = (IDS[:, None] == IDS) & ~np.eye(8, dtype=bool)
    return same / np.maximum(same.sum(1, keepdims=True), 1)


def clusters(phi):
    return phi @ (phi / phi.sum(0)).T


def divergence(p, q, entropy=True):
    some = p > 0
    ratio = np.where(some, p, 1) / np.where(some, q, 1) if entropy else 1 / np.where(some, q, 1)
    return (p * np.log(ratio)).sum(1).mean()


def of_graph():
    w = GRAPH * (1 - np.eye(8))
    return w / w.sum(1, keepdims=True)


PERPLEXED = with_perplexity(distances(X), 4.0)
T_OF_X = student(distances(X))
GAUSS, STUDENT = softmax(-distances(Z)), student(distances(Z))
COSINE = softmax(cosines(Z) / 0.5)
LOGITS = RNG.normal(size=(8, 4))
#: y_true, features, arguments, and the divergence that the paper has for the method.
METHODS = {
    "sne": (X, Z, {"perplexity": 4.0}, divergence(PERPLEXED, GAUSS)),
    "tsne": (X, Z, {"perplexity": 4.0}, divergence(PERPLEXED, STUDENT)),
    "dual_tsne": (X, Z, {}, divergence(T_OF_X, GAUSS)),
    "doubly_tsne": (X, Z, {}, divergence(T_OF_X, STUDENT)),
    "uniform_sne": (X, Z, {"k": 3}, divergence(nearest(X, 3), GAUSS)),
    "uniform_tsne": (X, Z, {"k": 3}, divergence(nearest(X, 3), STUDENT)),
    "graph_embedding": (GRAPH, Z, {}, divergence(of_graph(), GAUSS)),
    "t_simclr": (IDS, Z, {}, divergence(same_label(), student(1 - cosines(Z)), False)),
    "t_supcon": (IDS, Z, {}, divergence(same_label(), student(1 - cosines(Z)), False)),
    "lgsimclr": (
        X / np.linalg.norm(X, axis=1, keepdims=True),
        Z,
        {"k": 2, "temperature": 0.5},
        divergence(nearest(X / np.linalg.norm(X, axis=1, keepdims=True), 2), COSINE, False),
    ),
    "x_sample": (
        X,
        Z,
        {"temperature": 0.5},
        divergence(softmax(cosines(X) / 0.1), COSINE, False),
    ),
    "harmonic": (
        IDS,
        -3 * np.log(distances(Z, X[:4, :3])) / 2,
        {"num_classes": 4},
        -np.log(
            (
                distances(Z, X[:4, :3]) ** -1.5
                / (distances(Z, X[:4, :3]) ** -1.5).sum(1, keepdims=True)
            )[np.arange(8), IDS]
        ).mean(),
    ),
    "dcd": (GRAPH, PHI, {}, divergence(of_graph(), clusters(PHI))),
    "infonce_clustering": (X, PHI, {"k": 3}, divergence(nearest(X, 3), clusters(PHI))),
    "supervised_clustering": (IDS, PHI, {}, divergence(same_label(), clusters(PHI))),
    # Those that are losses of their own.
    "simclr": (None, VIEWS, {"temperature": 0.5}, value(NTXent(0.5), None, VIEWS)),
    "supcon": (IDS, Z, {"temperature": 0.5}, value(SupCon(0.5, 0.5), IDS, Z)),
    "clip": (None, VIEWS, {"temperature": 0.5}, value(InfoNCE(0.5), None, VIEWS)),
    "moco": (None, VIEWS, {"temperature": 0.5}, value(InfoNCE(0.5), None, VIEWS)),
    "cross_entropy": (
        IDS,
        LOGITS,
        {"num_classes": 4},
        value(keras.losses.SparseCategoricalCrossentropy(from_logits=True), IDS, LOGITS),
    ),
    "masked_lm": (
        PHI,
        LOGITS[:, :3],
        {"num_classes": 3},
        value(keras.losses.CategoricalCrossentropy(from_logits=True), PHI, LOGITS[:, :3]),
    ),
}
LIMITS = {"pca", "vicreg", "triplet", "kmeans", "spectral_clustering", "normalized_cuts"}


@pytest.mark.parametrize("method", METHODS)
def test_a_preset_is_the_method(method):
    y, z, arguments, expected = METHODS[method]
    assert value(ICon.preset(method, **arguments), y, z) == pytest.approx(expected, rel=2e-4)


def test_every_preset_is_tested():
    from keras_regularize.losses.contrastive._presets import PRESETS

    assert set(METHODS) | LIMITS == set(PRESETS)


def test_wide_gaussians_attract_and_repel_on_average():
    wide = 1e3
    # PCA: minus the mean squared distance of all pairs, which is twice the variance.
    pca = value(ICon.preset("pca", temperature=wide), Z, Z)
    assert wide * (pca - np.log(8)) == pytest.approx(-2 * np.cov(Z.T, ddof=0).trace(), rel=0.05)
    # VICReg's invariance and variance.
    ids = np.arange(8) // 2
    d, pairs = distances(Z), 1.0 - np.eye(8)
    positive = pairs * (ids[:, None] == ids)
    attraction = (positive * d).sum(1) - (pairs * d).sum(1) / 7
    vicreg = value(ICon.preset("vicreg", temperature=wide), ids, Z)
    assert wide * (vicreg - np.log(7)) == pytest.approx(attraction.mean(), rel=0.05)


def test_narrow_gaussians_are_triplets():
    z = np.array([[0.0, 0], [0.6, 0], [0, 0.5]])
    loss = ICon.preset("triplet", temperature=1e-3, reduction="none")
    values = ops.convert_to_numpy(loss(np.array([0, 0, 1]), z.astype("float32")))
    assert 1e-3 * values[0] == pytest.approx(0.36 - 0.25, rel=1e-2)


@pytest.mark.parametrize("method", ["kmeans", "spectral_clustering"])
def test_reversed_clusters_are_k_means(method):
    """Up to the entropy of the clusters and a constant: the same for all assignments."""
    gaps = []
    for seed in range(4):
        ids = np.random.default_rng(seed).permutation(np.arange(8) % 3)
        phi = np.eye(3)[ids]
        centers = [X[ids == c].mean(0) for c in range(3)]
        within = sum(((X[ids == c] - centers[c]) ** 2).sum() for c in range(3))
        entropy = sum((ids == c).sum() * np.log((ids == c).sum()) for c in range(3))
        loss = 8 * value(ICon.preset(method, temperature=2.0), X, phi)
        gaps.append(loss - (within - entropy))
    np.testing.assert_allclose(gaps, gaps[0], rtol=1e-3)


def test_reversed_clusters_of_a_graph_are_normalised_cuts():
    """Up to the entropy of the clusters and a constant: the same for all assignments."""
    weights = GRAPH + GRAPH.T
    degrees, gaps = weights.sum(1), []
    for seed in range(4):
        ids = np.random.default_rng(seed).permutation(np.arange(8) % 3)
        phi, same = np.eye(3)[ids], ids[:, None] == ids
        volumes = degrees @ phi
        cuts = sum(weights[ids == c][:, ids != c].sum() / volumes[c] for c in range(3))
        q = same * degrees / volumes[ids][:, None]
        entropy = (q * np.log(np.where(same, q, 1.0))).sum()
        loss = 8 * value(ICon.preset("normalized_cuts", temperature=0.05), weights, phi)
        gaps.append(loss - (cuts / 0.05 + entropy))
    np.testing.assert_allclose(gaps, gaps[0], rtol=1e-3)
    with pytest.raises(ValueError, match="whose members count by degrees"):
        ICon("cut", "gaussian")


def test_a_perplexity_is_the_exponential_of_the_entropy():
    x = np.concatenate([X, X[:1], 1e3 + 1e-2 * X[:3]]).astype("float32")
    p = GaussianNeighbors(perplexity=3.0).distribution(ops.convert_to_tensor(x), None)
    p = ops.convert_to_numpy(p.probabilities())
    entropy = -(p * np.log(np.maximum(p, 1e-30))).sum(1)
    np.testing.assert_allclose(np.exp(entropy[:9]), 3.0, rtol=1e-3)
    assert np.isfinite(p).all()


def test_divergences_of_equal_distributions_are_zero():
    loss = ICon(GaussianNeighbors(), GaussianNeighbors())
    assert value(loss, Z, Z) == pytest.approx(0, abs=1e-6)
    assert value(loss, X, Z) > 0
    uniform = ICon(
        GaussianNeighbors(), GaussianNeighbors(), supervisory_debiasing=1.0, learned_debiasing=1.0
    )
    assert value(uniform, X, Z) == pytest.approx(0, abs=1e-6)
    pulled = ICon("label", GaussianNeighbors(), supervisory_debiasing=1.0)
    assert value(pulled, IDS, 0 * Z) == pytest.approx(0, abs=1e-6)


def test_debiasing_is_spread_over_possible_neighbours():
    loss = ICon("label", GaussianNeighbors(0.5, "cosine"), 0.3, 0.2)
    u = (1 - np.eye(8)) / 7
    some = same_label().sum(1, keepdims=True) > 0
    p = np.where(some, 0.7 * same_label() + 0.3 * u, 0)
    assert value(loss, IDS, Z) == pytest.approx(divergence(p, 0.8 * COSINE + 0.2 * u), rel=1e-4)


EACH = {
    "label": ICon("label", "gaussian"),
    "knn": ICon(KNNNeighbors(2), ClusterNeighbors(from_logits=True), 0.4),
    "perplexity": ICon(GaussianNeighbors(perplexity=2.0), StudentTNeighbors()),
    "reverse": ICon.preset("kmeans", from_logits=True),
    "debiased": ICon("student_t", "gaussian", 0.3, 0.3),
}


@pytest.mark.parametrize("name", EACH)
def test_samples_of_weight_zero_are_nobodys_neighbours(name):
    loss, kept = EACH[name], np.array([1, 1, 1, 0, 1, 1, 0, 1], bool)
    y = IDS if name == "label" else X
    z = Z.copy()
    z[~kept] = np.nan
    weights = kept.astype("float32")
    y = np.asarray(y, "int32" if name == "label" else "float32")
    gradient = fused(kr.autodiff.value_and_grad(lambda z: loss(y, z, weights)))
    got, slope = gradient(ops.convert_to_tensor(z.astype("float32")))
    assert ops.convert_to_numpy(got) == pytest.approx(
        value(loss, y[kept], Z[kept]) * 6 / 8, rel=1e-4
    )
    slope = ops.convert_to_numpy(slope)
    assert np.isfinite(slope).all() and not slope[~kept].any()


def test_views_are_rows_of_their_sample():
    views, graph = VIEWS.astype("float32"), np.eye(5, dtype="float32") + GRAPH[:5, :5]
    rows = views.reshape(-1, 3)
    loss = ICon("precomputed", "gaussian")
    of_rows = loss(np.repeat(np.repeat(graph, 2, 0), 2, 1).astype("float32"), rows)
    assert float(loss(graph.astype("float32"), views)) == pytest.approx(float(of_rows), rel=1e-5)
    knn = ICon(KNNNeighbors(3), "gaussian")
    assert value(knn, X[:5], views) == pytest.approx(value(knn, np.repeat(X[:5], 2, 0), rows))


def test_configs():
    loss = ICon({"class": "KNNNeighbors", "config": {"k": 2}}, "cluster", divergence="kl", name="a")
    again = ICon.from_config(loss.get_config())
    assert again.supervisory.k == 2 and isinstance(again.learned, ClusterNeighbors)
    assert ICon.preset("tsne").name == "tsne"


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: ICon(IdentityNeighbors(), GaussianNeighbors()), "infinite"),
        (lambda: ICon(GaussianNeighbors(), "cluster", divergence="reverse_kl"), "infinite"),
        (lambda: ICon("knn", "gaussian"), "must be given"),
        (lambda: ICon("nearest", "gaussian"), "distribution of neighbours"),
        (lambda: ICon("label", "gaussian", divergence="js"), "divergence"),
        (lambda: ICon("label", "gaussian", 1.5), "supervisory_debiasing"),
        (lambda: ICon.preset("umap"), "method"),
        (lambda: ICon.preset("simclr", k=3), "takes"),
        (lambda: GaussianNeighbors(0.0), "temperature"),
        (lambda: GaussianNeighbors(perplexity=0.5), "perplexity"),
        (lambda: StudentTNeighbors(metric="dot"), "metric"),
        (lambda: KNNNeighbors(0), "k"),
        (lambda: ClassNeighbors(1), "num_classes"),
        (lambda: LogitNeighbors(-1.0), "temperature"),
        (lambda: ICon("precomputed", "gaussian")(X, np.ones((8, 2))), "each pair"),
        (lambda: ICon(LabelNeighbors(), "gaussian")(None, np.ones((8, 2))), "needs `y_true`"),
        (lambda: ICon(KNNNeighbors(2), "gaussian")(None, np.ones((4, 2, 2))), "needs `y_true`"),
        (lambda: ICon(ClassNeighbors(3), "logit")(IDS % 3, np.ones((8, 4))), "same columns"),
        (lambda: ICon(PrecomputedNeighbors(), "logit")(GRAPH, np.ones((8, 4))), "same columns"),
    ],
)
def test_what_does_not_fit(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.rotating
def test_hard_numbers():
    for name, loss in EACH.items():
        y = IDS if name == "label" else X.astype("float32")
        for z in (0 * Z, np.repeat(Z[:1], 8, 0), 1e3 + Z, 30 * Z):
            run = fused(kr.autodiff.value_and_grad(lambda z: loss(y, z)))  # noqa: B023
            found = run(ops.convert_to_tensor(z.astype("float32")))
            assert all(np.isfinite(ops.convert_to_numpy(part)).all() for part in found), name
