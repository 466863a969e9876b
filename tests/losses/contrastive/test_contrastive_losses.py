"""What belongs together, what is not there, and hard numbers: losses of views and of features with labels."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_regularize as kr
from keras_regularize.losses import (
    Alignment,
    BarlowTwins,
    FDivergenceContrastive,
    InfoNCE,
    NPair,
    NTXent,
    SupCon,
    Triplet,
    VICReg,
)
from keras_regularize.testing._common import fused

RNG = np.random.default_rng(0)
VIEWS = RNG.normal(size=(6, 2, 5)).astype("float32")
IDS = np.array([0, 1, 0, 2, 1, 0])
PAIRS = {
    "NTXent": NTXent(0.5),
    "SupCon": SupCon(0.5),
    "InfoNCE": InfoNCE(0.5),
    "VICReg": VICReg(),
    "BarlowTwins": BarlowTwins(),
    **{d: FDivergenceContrastive(d, 0.5) for d in ("kl", "chi_square", "hellinger", "reverse_kl")},
    "others": FDivergenceContrastive("hellinger", 0.5, include_positive=False),
    "Alignment": Alignment(),
    "hard": Triplet(),
    "semi_hard": Triplet(mining="semi_hard"),
    "soft": Triplet("soft", normalized=False),
    "all": Triplet(mining="all"),
}
pairs = pytest.mark.parametrize("name", PAIRS)


def value_and_slope(loss, y, z, weights=None):
    run = fused(kr.autodiff.value_and_grad(lambda z: loss(y, z, weights)))
    return [ops.convert_to_numpy(part) for part in run(ops.convert_to_tensor(z))]


@pairs
def test_a_sample_of_weight_zero_is_not_there(name):
    loss, kept = PAIRS[name], np.array([1, 1, 0, 1, 0, 1], bool)
    y = IDS if name in ("SupCon", "hard", "semi_hard", "soft", "all") else None
    wild = VIEWS.copy()
    wild[2] = np.nan
    value, slope = value_and_slope(loss, y, wild, kept.astype("float32"))
    expected, wanted = value_and_slope(loss, None if y is None else y[kept], VIEWS[kept])
    # Keras' mean counts all samples.
    assert value == pytest.approx(expected * 4 / 6, rel=1e-5)
    np.testing.assert_allclose(slope[kept], wanted * 4 / 6, rtol=1e-4, atol=1e-6)
    assert not slope[~kept].any()
    assert np.isnan(float(loss(y, wild)))
    assert float(loss(y, VIEWS, np.zeros(6, "float32"))) == 0


@pairs
def test_hard_numbers(name):
    loss, z = PAIRS[name], RNG.normal(size=(6, 2, 4))
    far = name not in ("VICReg",)  # Whose value itself is out of reach.
    cases = {
        "zeros": 0 * z,
        "duplicates": np.repeat(z[:1], 6, axis=0),
        "a zero among others": z * (np.arange(6) > 0)[:, None, None],
        "one": z[:1],
        **({"huge": 1e20 * z} if far else {}),
    }
    for what, features in cases.items():
        for part in value_and_slope(loss, None, features.astype("float32")):
            assert np.isfinite(part).all(), what
    for dtype in ("float16", "bfloat16"):
        half = ops.cast(VIEWS, dtype)
        wide = ops.cast(half, "float32")
        assert float(loss(None, half)) == pytest.approx(float(loss(None, wide)), rel=1e-5), dtype


def test_far_from_the_origin():
    z = RNG.normal(size=(16, 2, 4))
    for loss in (VICReg(), BarlowTwins(), Triplet(1.0, normalized=False)):
        near, slope = value_and_slope(loss, None, z.astype("float32"))
        moved, slope_there = value_and_slope(loss, None, (z + 1e3).astype("float32"))
        assert moved == pytest.approx(near, rel=1e-2)
        np.testing.assert_allclose(slope_there, slope, rtol=0.02, atol=0.01 * np.abs(slope).max())


def test_views_are_rows_with_the_ids_of_their_samples():
    rows, ids = VIEWS.reshape(-1, 5), np.repeat(np.arange(6), 2)
    of_rows = NTXent(0.5, reduction="none")(ids, rows)
    of_views = NTXent(0.5, reduction="none")(IDS, VIEWS)
    np.testing.assert_allclose(
        ops.convert_to_numpy(of_views),
        ops.convert_to_numpy(of_rows).reshape(6, 2).mean(1),
        rtol=1e-5,
    )
    assert float(SupCon(0.5, 0.5)(None, VIEWS)) == pytest.approx(float(NTXent(0.5)(None, VIEWS)))
    assert float(Triplet()(ids, rows)) == pytest.approx(float(Triplet()(None, VIEWS)))
    for y in (IDS[:, None], IDS.astype("uint8"), IDS.astype("float32")):
        assert float(SupCon()(y, VIEWS)) == pytest.approx(float(SupCon()(IDS, VIEWS)))


def test_an_anchor_without_a_positive_counts_with_zero():
    z = VIEWS[:, 0]
    values = ops.convert_to_numpy(SupCon(reduction="none")(IDS, z))
    assert values[3] == 0 and (values[[0, 1, 2, 4, 5]] > 0).all()
    assert float(SupCon()(IDS, z)) == pytest.approx(values.mean())


def triplets(mining, distances, ids, margin):
    """By all of them, one after the other."""
    n, each, active = len(ids), [], []
    for a in range(n):
        positives = [p for p in range(n) if ids[p] == ids[a] and p != a]
        negatives = [j for j in range(n) if ids[j] != ids[a]]
        semi = []
        for p in positives:
            gaps = [distances[a, p] - distances[a, j] + margin for j in negatives]
            active += [gap for gap in gaps if gap > 0]
            further = [distances[a, j] for j in negatives if distances[a, j] > distances[a, p]]
            chosen = min(further) if further else max(distances[a, j] for j in negatives)
            semi.append(max(0, distances[a, p] - chosen + margin))
        each.append(np.mean(semi) if semi else 0.0)
    return np.full(n, np.mean(active)) if mining == "all" else np.array(each)


@pytest.mark.parametrize("mining", ["all", "semi_hard"])
def test_triplets_one_by_one(mining):
    z, ids = RNG.normal(size=(12, 3)), RNG.integers(0, 4, 12)
    distances = np.linalg.norm(z[:, None] - z, axis=-1)
    for margin in (0.1, 1.0):
        loss = Triplet(margin, mining, normalized=False, reduction="none")
        np.testing.assert_allclose(
            ops.convert_to_numpy(loss(ids, z.astype("float32"))),
            triplets(mining, distances, ids, margin),
            rtol=1e-4,
            atol=1e-5,
        )


@pytest.mark.parametrize("spread", [0.1, 3.0, 100.0])
@pytest.mark.parametrize("divergence", ["hellinger", "reverse_kl", "kl", "chi_square"])
def test_the_best_shift_is_found(divergence, spread):
    generator = np.random.default_rng(1)
    a, b = generator.normal(size=(2, 40, 3)) * spread**0.5
    scores = a @ b.T
    conjugate, lowest = {
        "kl": (lambda y: np.exp(y - 1), None),
        "chi_square": (lambda y: y + y * y / 2, None),
        "hellinger": (lambda y: y / (1 - y), 1.0),
        "reverse_kl": (lambda y: -1 - np.log(-y), 0.0),
    }[divergence]
    top = scores.max(axis=1)
    if lowest is None:  # Known in closed form.
        best = scores.mean(1) + scores.var(1) / 2
        if divergence == "kl":
            best = top + np.log(np.exp(scores - top[:, None]).mean(1))
    else:
        shifts = top[:, None] - lowest + np.geomspace(1e-3, 1.0, 20001)
        best = np.min([conjugate(scores - c[:, None]).mean(1) + c for c in shifts.T[::4]], axis=0)
    loss = FDivergenceContrastive(divergence, 1.0, normalized=False, reduction="none")
    values = ops.convert_to_numpy(loss(None, np.stack([a, b], 1).astype("float32")))
    np.testing.assert_allclose(values, best - np.diag(scores), rtol=1e-4, atol=1e-3 + 1e-5 * spread)


@pytest.mark.parametrize("divergence", ["kl", "chi_square", "hellinger", "reverse_kl"])
def test_constants_added_to_scores_change_nothing(divergence):
    loss = FDivergenceContrastive(divergence, 1.0, normalized=False)
    z = VIEWS.copy()
    z[:, 1] = z[:, 1] + 2.0  # Adds a number to all scores of each anchor.
    assert float(loss(None, z)) == pytest.approx(float(loss(None, VIEWS)), rel=1e-4, abs=1e-5)
    assert float(loss(None, 0 * z + 1)) == pytest.approx(0.0, abs=1e-5)


def test_statistics_that_are_as_they_should_be():
    z = RNG.normal(size=(8, 4))
    z = np.linalg.qr(z - z.mean(0))[0]
    both = np.stack([z, z], 1).astype("float32") * 8**0.5
    assert float(BarlowTwins()(None, both)) == pytest.approx(0, abs=1e-4)
    assert float(VICReg()(None, both)) == pytest.approx(0, abs=1e-4)
    assert float(Alignment()(None, both)) == 0
    assert float(VICReg(variance_factor=0, covariance_factor=0)(None, VIEWS[:1])) == pytest.approx(
        float(VICReg()(None, VIEWS[:1]))
    )
    assert float(BarlowTwins()(None, 5 * VIEWS + 3)) == pytest.approx(
        float(BarlowTwins()(None, VIEWS)), rel=1e-3
    )
    assert float(NPair()(None, np.zeros((2, 5, 3)))) == pytest.approx(np.log(4))
    assert float(NPair("hinge")(None, np.zeros((2, 5, 3)))) == 1


@pytest.mark.parametrize(
    "loss, y, shape, message",
    [
        (NTXent(), None, (4, 3), "need labels"),
        (NTXent(), None, (4, 1, 3), "at least 2 views"),
        (SupCon(), None, (4, 1, 3), "at least 2 views"),
        (SupCon(), np.zeros((4, 3)), (4, 3), "argmax"),
        (SupCon(), np.zeros(3), (4, 3), "labels as ids"),
        (SupCon(), np.zeros(4), (4,), "features of shape"),
        (InfoNCE(), None, (4, 3, 3), "of 2 views"),
        (VICReg(), None, (4, 3), "of 2 views"),
        (BarlowTwins(), None, (4, 1, 3), "of 2 views"),
        (Alignment(), None, (4, 5), "of 2 views"),
        (NPair(), None, (4, 2, 3), "at least 3 views"),
        (FDivergenceContrastive(), None, (4, 3), "of 2 views"),
    ],
)
def test_shapes_that_do_not_fit(loss, y, shape, message):
    with pytest.raises(ValueError, match=message):
        loss(y, np.ones(shape, "float32"))


@pytest.mark.parametrize("loss", [NTXent(), kr.losses.WeightedSum([NTXent(), Alignment()])])
def test_single_views_cannot_be_left_out(loss):
    one = np.array([[1, 0], [1, 1], [1, 1]], "bool")
    masked = ops.convert_to_tensor(np.ones((3, 2, 4), "float32"))
    masked._keras_mask = ops.convert_to_tensor(one)
    with pytest.raises(ValueError, match="a mask, of at most the rank of the loss values"):
        loss(None, masked)
    with pytest.raises(ValueError, match="Expected sample weights"):
        loss(None, np.ones((3, 2, 4), "float32"), one.astype("float32"))


def test_arguments_that_do_not_fit():
    for make in (
        lambda: NTXent(0.0),
        lambda: SupCon(base_temperature=-1),
        lambda: Triplet("soft", "all"),
        lambda: Triplet("hard"),
        lambda: Triplet(mining="easy"),
        lambda: Triplet(-1.0),
        lambda: NPair("square"),
        lambda: FDivergenceContrastive("js"),
        lambda: Alignment(0.0),
        lambda: VICReg(epsilon=0.0),
    ):
        with pytest.raises(ValueError, match="Received"):
            make()


def test_centers_follow_the_features():
    x, labels = keras.Input((3,)), keras.Input((), dtype="int32", optional=True)
    layer = kr.layers.CenterLoss(2, factor=1.0, rate=1.0)
    dense = keras.layers.Dense(3, kernel_initializer="identity")
    network = keras.Model([x, labels], layer([dense(x), labels]))
    model = kr.models.WithLabels(network)
    model.compile("sgd", loss=None)
    features = np.array([[1, 0, 0], [3, 0, 0], [0, 2, 0]], "float32")
    loss = model.train_on_batch(features, np.array([0, 0, 1]))
    assert float(np.ravel(loss)[0]) == pytest.approx((0.5 + 4.5 + 2) / 3)
    expected = kr.losses.center_update(features, np.array([0, 0, 1]), np.zeros((2, 3)), 1.0)
    np.testing.assert_allclose(layer.centers, ops.convert_to_numpy(expected), rtol=1e-6)
    np.testing.assert_allclose(layer.centers, [[4 / 3, 0, 0], [0, 1, 0]], rtol=1e-6)
    unknown = kr.losses.center_loss(features, np.array([-1, 0, 1]), np.zeros((2, 3)))
    np.testing.assert_allclose(ops.convert_to_numpy(unknown), [0, 4.5, 2])
