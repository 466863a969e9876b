"""Regularizers of a batch of features: where float32 is hard, what they are invariant to, and what they do."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_regularize import analysis, losses
from keras_regularize.ops.points import spanning_tree
from keras_regularize.regularizers import TREG, Dispersive, KoLeo, LDReg, Uniformity
from tests.helpers import number, tensor, to_be_divided, values_and_gradients

ALL = {
    **{f"Dispersive {v}": Dispersive(1.0, v) for v in ("l2", "cosine", "hinge", "covariance")},
    "KoLeo": KoLeo(1.0),
    "KoLeo, raw": KoLeo(1.0, normalized=False),
    "LDReg": LDReg(1.0, k=8),
    "LDReg, mle": LDReg(1.0, k=8, estimator="mle"),
    "LDReg, order 2": LDReg(1.0, k=8, order=2),
    "TREG": TREG(1.0, 0.0),
    "Uniformity": Uniformity(1.0),
    "Uniformity, raw": Uniformity(1.0, normalized=False),
}
every = pytest.mark.parametrize("name", ALL)
#: Those that do not depend on where the origin is.
CENTRED = [n for n in ALL if n.split()[-1] not in ("cosine", "KoLeo", "Uniformity")]


def cloud(n=24, dim=5, seed=0):
    return np.random.default_rng(seed).normal(size=(n, dim))


def evaluate(name, z):
    value, gradient = values_and_gradients(ALL[name])(tensor(z))
    return number(value), ops.convert_to_numpy(gradient)


@every
def test_hard_features_have_finite_values_and_gradients(name):
    z = cloud()
    with_copies = np.concatenate([z[:8], z[:8], z[:8]])
    cases = {
        "copies": with_copies,
        "all equal": np.full((6, 5), 3.7),
        "zero vectors": z * (np.arange(24) % 2)[:, None],
        "one": z[:1],
        "two": z[:2],
        "three": z[:3],
        "huge": 1e20 * z,
        "one far": np.concatenate([z, 1e20 * z[:1]]),
    }
    for what, given in cases.items():
        value, gradient = evaluate(name, given)
        assert np.isfinite(value) and np.isfinite(gradient).all(), what
    value, gradient = evaluate(name, cases["all equal"])
    assert np.abs(gradient).max() < 1e-6
    half = ops.cast(tensor(z), "float16")
    np.testing.assert_allclose(
        number(ALL[name](half)), number(ALL[name](tensor(z))), rtol=2e-2, atol=0.05
    )


@pytest.mark.parametrize("name", CENTRED)
def test_far_from_the_origin_nothing_is_lost(name):
    # Steps of 1/64, which float32 holds exactly beside 4096.
    z = np.round(16 * cloud()) / 16
    near, far = evaluate(name, z), evaluate(name, z + 4096.0)
    np.testing.assert_allclose(far[0], near[0], rtol=1e-4)
    np.testing.assert_allclose(far[1], near[1], rtol=2e-3, atol=2e-3 * np.abs(near[1]).max())


@every
def test_order_and_rotation_do_not_matter(name):
    z = cloud()
    rotation = np.linalg.qr(cloud(5, 5, seed=1))[0] if "covariance" not in name else np.eye(5)
    moved = (z @ rotation)[np.random.default_rng(2).permutation(len(z))]
    np.testing.assert_allclose(evaluate(name, moved)[0], evaluate(name, z)[0], rtol=1e-4)


def test_limits():
    z = cloud()
    n = len(z)
    assert abs(evaluate("Dispersive l2", np.ones((4, 3)))[0]) < 1e-6
    far = number(Dispersive(1.0)(tensor(1e3 * z)))
    np.testing.assert_allclose(far, to_be_divided(-np.log(n), n), rtol=1e-5)
    # Both Gram matrices of the covariance.
    narrow, wide = cloud(8, 5), cloud(5, 8)
    for given in (narrow, wide):
        c = np.corrcoef(given.T)
        expected = to_be_divided(np.sum(c**2) - len(c), len(given))
        np.testing.assert_allclose(evaluate("Dispersive covariance", given)[0], expected, rtol=1e-4)
    constant = np.concatenate([narrow, np.full((8, 1), 3.7)], axis=1)
    np.testing.assert_allclose(
        evaluate("Dispersive covariance", constant)[0],
        evaluate("Dispersive covariance", narrow)[0],
        rtol=1e-4,
    )
    # A regular simplex has the longest tree in a ball.
    simplex = np.eye(6) - 1 / 6
    simplex /= np.linalg.norm(simplex[0])
    np.testing.assert_allclose(
        evaluate("TREG", simplex)[0], to_be_divided(-5 / 6 * np.sqrt(12 / 5), 6), rtol=1e-5
    )


@pytest.mark.everywhere
def test_the_tree_in_a_compiled_program_is_that_outside():
    for z in (cloud(17, 3), np.concatenate([cloud(6, 3)] * 2)):
        squares = tensor(np.square(z[:, None] - z[None]).sum(-1))
        outside = ops.convert_to_numpy(spanning_tree(squares))
        model = keras.Sequential([keras.layers.Lambda(lambda d: spanning_tree(d)[:, None])])
        inside = model.predict(squares, batch_size=len(z), verbose=0)[:, 0]
        np.testing.assert_array_equal(inside, outside)
        edges = [(i, j) for i, j in enumerate(outside) if i]
        joined = {0}
        for _ in edges:
            joined |= {i for i, j in edges if j in joined} | {j for i, j in edges if i in joined}
        assert len(joined) == len(z)


@pytest.mark.parametrize("regularizer", [Dispersive(), KoLeo(), LDReg(), TREG(), Uniformity()])
def test_features_need_an_axis(regularizer):
    with pytest.raises(
        ValueError, match=r"Expected features `\(batch, …\)`.*Received: shape=\(4,\)"
    ):
        regularizer(tensor(np.ones(4)))


@pytest.mark.rotating
@pytest.mark.parametrize(
    "regularizer, rank",
    [
        (Dispersive(1.0), 4.0),
        (Dispersive(1.0, "covariance"), 8.0),
        (LDReg(1.0, k=16), 2.5),
        (TREG(1.0, 0.01), 10.0),
    ],
)
def test_a_cloud_along_a_line_fills_space(regularizer, rank):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(64, 1)) * rng.normal(size=(1, 16)) + 0.01 * rng.normal(size=(64, 16))

    def effective_rank(z):
        return analysis.effective_rank(np.cov(z.T))

    before = effective_rank(z)
    table = keras.Sequential(
        [keras.Input((1,)), keras.layers.Embedding(64, 16), keras.layers.Reshape((16,))]
    )
    table.add(keras.layers.Identity(activity_regularizer=regularizer))
    table.layers[0].set_weights([z])
    table.compile(keras.optimizers.Adam(0.05), lambda y, p: 0.0 * ops.sum(p, axis=-1))
    index = np.arange(64)[:, None]
    steps = np.tile(index, (200, 1))
    table.fit(steps, steps, batch_size=64, shuffle=False, verbose=0)
    assert before < 1.2 and effective_rank(table.predict(index, verbose=0)) > rank


def test_samples_that_do_not_count_are_in_no_tree():
    views = tensor(np.random.default_rng(0).normal(size=(6, 2, 3)))
    loss = losses.TREGS(reduction="none")
    weights = np.array([0.0, 1, 1, 0, 1, 1], "float32")
    kept = ops.take(views, np.flatnonzero(weights), axis=0)
    for given in (views, ops.where(weights[:, None, None] > 0, views, np.nan)):
        value = ops.convert_to_numpy(loss(np.zeros(6), given, weights))
        np.testing.assert_allclose(
            value[weights > 0], ops.convert_to_numpy(loss(np.zeros(4), kept)), rtol=1e-5
        )
    assert number(ops.sum(loss(np.zeros(6), views, np.zeros(6, "float32")))) == 0
    with pytest.raises(ValueError, match=r"\(batch, views, dim\) of 2 views"):
        loss(np.zeros(6), views[:, 0])


@pytest.mark.once
def test_local_intrinsic_dimension_is_that_of_the_set():
    rng = np.random.default_rng(0)
    embedding = np.linalg.qr(rng.normal(size=(12, 12)))[0]
    for dim in (1, 2, 4):
        ball = rng.normal(size=(2000, dim))
        ball *= rng.uniform(size=(2000, 1)) ** (1 / dim) / np.linalg.norm(
            ball, axis=1, keepdims=True
        )
        features = np.pad(ball, ((0, 0), (0, 12 - dim))) @ embedding
        for estimator in ("mle", "moments"):
            found = analysis.local_intrinsic_dimension(features + 1e4, k=20, estimator=estimator)
            mean = np.exp(np.log(found).mean())
            assert 0.8 * dim < mean < 1.25 * dim, (dim, estimator, mean)
    z = cloud(12, 3)
    distances = np.sort(np.linalg.norm(z[:, None] - z[None], axis=-1), axis=1)[:, 1:6]
    expected = -5 / np.log(distances[:, :4] / distances[:, 4:] + 1e-4).sum(axis=1)
    np.testing.assert_allclose(analysis.local_intrinsic_dimension(z, k=5), expected)
    m = distances[:, :4].mean(axis=1)
    np.testing.assert_allclose(
        analysis.local_intrinsic_dimension(z[:4], z[4:], k=3, estimator="moments").shape, (4,)
    )
    np.testing.assert_allclose(
        analysis.local_intrinsic_dimension(z, k=5, estimator="moments"), m / (distances[:, 4] - m)
    )
    assert (analysis.local_intrinsic_dimension(np.ones((9, 2)), k=3) == 0).all()
    with pytest.raises(ValueError, match="at least k=32 other samples"):
        analysis.local_intrinsic_dimension(z)
