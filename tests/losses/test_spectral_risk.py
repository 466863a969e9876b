import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

import keras_regularize as kr
from keras_regularize.losses import CVaR, SpectralRisk, spectral_weights
from keras_regularize.testing._common import fused

CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
SPECTRA = [
    ("cvar", 0.5),
    ("cvar", 0.33),
    ("extremile", 2.0),
    ("extremile", 7.5),
    ("esrm", 1.0),
    ("esrm", 20.0),
    ("uniform", 1.0),
]
RNG = np.random.RandomState(0)


# The formula in float64: spectra as integrals, pool adjacent violators one by one


def spectrum_of(name, parameter, n):
    edges = np.arange(n + 1) / n
    mass = {
        "cvar": lambda t: np.maximum(t - 1 + parameter, 0) / parameter,
        "extremile": lambda t: t**parameter,
        "esrm": lambda t: np.expm1(parameter * t) / np.expm1(parameter),
        "uniform": lambda t: t,
    }[name]
    return np.diff(mass(edges))


def oracle(losses, name, parameter, shift_cost=0.0, penalty="chi2"):
    losses = np.asarray(losses, "float64")
    n, order = len(losses), np.argsort(losses, kind="stable")
    mass = spectrum_of(name, parameter, n)
    if shift_cost == 0:
        sorted_weights = mass
    else:
        s = losses[order] / (shift_cost * (n if penalty == "chi2" else 1))

        def level(a, b):
            if penalty == "chi2":
                return np.mean(s[a:b] - mass[a:b])
            with np.errstate(divide="ignore"):
                return np.logaddexp.reduce(s[a:b]) - np.log(mass[a:b].sum())

        blocks = []
        for i in range(n):
            blocks.append((i, i + 1))
            while len(blocks) > 1 and level(*blocks[-2]) >= level(*blocks[-1]):
                (a, _), (_, b) = blocks[-2:]
                blocks[-2:] = [(a, b)]
        sorted_weights = np.empty(n)
        for a, b in blocks:
            if penalty == "chi2":
                sorted_weights[a:b] = s[a:b] - np.mean(s[a:b] - mass[a:b])
            else:
                e = np.exp(s[a:b] - s[a:b].max())
                sorted_weights[a:b] = mass[a:b].sum() * e / e.sum()
    weights = np.empty(n)
    weights[order] = sorted_weights
    return weights


def divergence(q, penalty):
    n = len(q)
    if penalty == "chi2":
        return n / 2 * np.sum((q - 1 / n) ** 2)
    return np.sum(q * np.log(np.where(q > 0, n * q, 1.0)))


def weights_of(losses, *arguments):
    evaluate = fused(lambda losses: spectral_weights(losses, *arguments))
    return ops.convert_to_numpy(evaluate(np.asarray(losses, "float32")))


VECTORS = {
    "random": RNG.exponential(size=9),
    "ties": np.array([1.0, 0.5, 1.0, 1.0, 0.5, 2.0, 0.5, 1.0, 0.0]),
    "equal": np.ones(9),
    "large": 1e4 * RNG.normal(size=9),
    "close": 1000.0 + np.arange(9) % 4 / 128,
    "close to one": 1.0 + RNG.normal(size=9) / 20,
}
COSTS = [(0.05, "chi2"), (0.05, "kl"), (1.0, "chi2"), (1.0, "kl")]


@pytest.mark.parametrize("name, parameter", SPECTRA)
def test_weights_equal_pooling_one_by_one(name, parameter):
    """Only the ratio of losses and shift cost matters, so the costs are in the losses."""
    rows = {(v, c): VECTORS[v].astype("float32") / c for v in VECTORS for c in (1 / 32, 1.0, 32.0)}

    def everything(losses):
        return ops.map(
            lambda losses: [
                spectral_weights(losses, name, parameter),
                spectral_weights(losses, name, parameter, 1.0, "chi2"),
                spectral_weights(losses, name, parameter, 1.0, "kl"),
            ],
            losses,
        )

    hard, *soft = fused(everything)(np.stack(list(rows.values())).astype("float32"))
    for i, ((v, cost), losses) in enumerate(rows.items()):
        for penalty, found in zip(("chi2", "kl"), soft):
            got = ops.convert_to_numpy(found[i])
            expected = oracle(losses, name, parameter, 1.0, penalty)
            np.testing.assert_allclose(got, expected, atol=1e-5, err_msg=f"{v} {cost} {penalty}")
        got = ops.convert_to_numpy(hard[i])
        # Without a shift cost tied losses may take their weights in any order.
        got, expected = np.sort(got), np.sort(oracle(losses, name, parameter))
        np.testing.assert_allclose(got, expected, atol=1e-5, err_msg=v)


@pytest.mark.parametrize("penalty", ["chi2", "kl"])
@pytest.mark.parametrize("name, parameter", [("cvar", 0.4), ("extremile", 2.0)])
def test_weights_are_optimal_among_feasible_ones(name, parameter, penalty):
    losses = RNG.exponential(size=8)
    mass = spectrum_of(name, parameter, 8)
    q = weights_of(losses, name, parameter, 0.3, penalty).astype("float64")
    # Majorized by the spectrum: the sum of the k largest is at most that of the spectrum.
    assert (np.cumsum(np.sort(q)[::-1]) <= np.cumsum(mass[::-1]) + 1e-6).all()
    best = q @ losses - 0.3 * divergence(q, penalty)
    for _ in range(300):
        shares = RNG.dirichlet(np.full(6, 0.5))
        other = sum(share * RNG.permutation(mass) for share in shares)
        other = RNG.uniform() * (other - q) + q
        assert other @ losses - 0.3 * divergence(other, penalty) <= best + 1e-6


@settings(max_examples=20)
@given(
    losses=st.lists(st.floats(0, 100, width=32, allow_subnormal=False), min_size=7, max_size=7),
    case=st.sampled_from(SPECTRA),
    cost=st.sampled_from([(0.0, "chi2"), *COSTS]),
)
def test_weights_are_ordered_as_the_losses(losses, case, cost):
    q = ops.convert_to_numpy(spectral_weights(losses, *case, *cost))
    order = np.argsort(losses, kind="stable")
    assert (np.diff(q[order]) >= -1e-5).all() or cost[0] == 0 and len(set(losses)) < 7
    assert q.sum() == pytest.approx(1, abs=1e-5) and (q >= -1e-6).all()
    if cost[0] > 0:
        for a in set(losses):
            assert np.ptp(q[np.array(losses) == a]) < 1e-5


def test_limits():
    losses = RNG.exponential(size=10).astype("float32")
    uniform = np.full(10, 0.1)

    def everything(losses):
        return [
            spectral_weights(losses, "cvar", 1.0),
            spectral_weights(losses, "cvar", 0.1),
            spectral_weights(losses, "cvar", 1e-9),
            spectral_weights(losses, "extremile", 1.0),
            spectral_weights(losses, "esrm", 1e-5),
            spectral_weights(losses, "cvar", 0.2, 1e6, "chi2"),
            spectral_weights(losses, "cvar", 0.2, 1e6, "kl"),
            spectral_weights(losses[:1], "extremile", 2.0, 1.0, "kl"),
            spectral_weights(losses[:1], "cvar", 0.3, 1.0, "chi2"),
        ]

    found = [ops.convert_to_numpy(q) for q in fused(everything)(losses)]
    largest = np.eye(10)[losses.argmax()]
    expected = [uniform, largest, largest, uniform, uniform, uniform, uniform, [1.0], [1.0]]
    for got, wanted in zip(found, expected):
        np.testing.assert_allclose(got, wanted, atol=1e-5)
    assert spectral_weights(np.zeros(0, "float32"), shift_cost=1.0).shape == (0,)


def test_a_large_batch():
    losses = RNG.exponential(size=2048).astype("float32")
    for arguments in (("cvar", 0.1, 0.5, "chi2"), ("extremile", 3.0, 0.5, "kl")):
        got = weights_of(losses, *arguments)
        np.testing.assert_allclose(2048 * got, 2048 * oracle(losses, *arguments), atol=2e-3)


# The loss


def test_cvar_is_the_mean_of_the_worst():
    logits, labels = RNG.normal(size=(10, 3)).astype("float32"), RNG.randint(0, 3, 10)
    losses = np.sort(ops.convert_to_numpy(CROSS_ENTROPY.call(labels, logits)))
    assert float(CVaR(CROSS_ENTROPY, 0.3)(labels, logits)) == pytest.approx(losses[-3:].mean())
    # A part of the sample at the edge.
    expected = (losses[-2:].sum() + 0.5 * losses[-3]) / 2.5
    assert float(CVaR(CROSS_ENTROPY, 0.25)(labels, logits)) == pytest.approx(expected)
    assert float(CVaR(CROSS_ENTROPY, 1.0)(labels, logits)) == pytest.approx(losses.mean())
    assert float(CVaR(CROSS_ENTROPY, 0.05)(labels, logits)) == pytest.approx(losses.max())
    # The minimum over the threshold, which is convex and found at one of the losses.
    bound = [eta + np.maximum(losses - eta, 0).mean() / 0.25 for eta in losses]
    assert min(bound) == pytest.approx(expected)


@pytest.mark.parametrize("penalty", ["chi2", "kl"])
def test_the_mean_is_the_risk_and_has_its_gradient(penalty):
    labels = RNG.randint(0, 3, 8)
    loss = SpectralRisk(CROSS_ENTROPY, "extremile", 2.0, 0.2, penalty)
    logits = RNG.normal(size=(8, 3)).astype("float32")
    losses = ops.convert_to_numpy(CROSS_ENTROPY.call(labels, logits)).astype("float64")
    q = oracle(losses, "extremile", 2.0, 0.2, penalty)
    assert float(loss(labels, logits)) == pytest.approx(
        q @ losses - 0.2 * divergence(q, penalty), abs=1e-5
    )
    # Through the weights too: they are at their optimum.
    kr.testing.assert_gradient_matches_finite_differences(
        lambda z: ops.mean(loss.call(labels, z)), logits
    )


@pytest.mark.parametrize("shift_cost", [0.0, 0.3])
def test_risk_moves_with_the_losses_and_is_above_their_mean(shift_cost):
    losses = RNG.normal(size=(12, 1)).astype("float32")
    own = lambda y_true, y_pred: y_pred[:, 0]  # noqa: E731
    for name, parameter in SPECTRA[1:5:3]:
        risk = SpectralRisk(own, name, parameter, shift_cost, "kl")
        value, moved = fused(lambda z: [risk(z, z), risk(z, z + 3.0)])(losses)  # noqa: B023
        assert float(moved) == pytest.approx(3.0 + float(value), abs=1e-5)
        assert float(value) >= losses.mean() - 1e-6


@pytest.mark.parametrize(
    "inner, y_true, y_pred",
    [
        ("mse", RNG.normal(size=(6, 2)), RNG.normal(size=(6, 2))),
        ("binary_crossentropy", RNG.randint(0, 2, (6, 1)), RNG.uniform(0.1, 0.9, (6, 1))),
        (keras.losses.huber, RNG.normal(size=(6, 4)), RNG.normal(size=(6, 4))),
        (keras.losses.LogCosh(), RNG.normal(size=(6, 4)), RNG.normal(size=(6, 4))),
        (kr.losses.MaxSup(0.2), RNG.randint(0, 3, 6), RNG.normal(size=(6, 3))),
        # Losses per position are averaged per sample.
        (CROSS_ENTROPY, RNG.randint(0, 3, (6, 5)), RNG.normal(size=(6, 5, 3))),
    ],
)
def test_any_loss_goes_inside_and_is_saved(inner, y_true, y_pred):
    y_true, y_pred = np.asarray(y_true, "float32"), np.asarray(y_pred, "float32")
    uniform = SpectralRisk(inner, "uniform")
    values = ops.convert_to_numpy(uniform.call(y_true, y_pred))
    assert values.shape == (6,)
    inner = keras.losses.get(inner)
    expected = ops.mean(inner(y_true, y_pred))
    assert values.mean() == pytest.approx(float(expected), rel=1e-5)
    loss = CVaR(inner, 0.5)
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert float(restored(y_true, y_pred)) == pytest.approx(float(loss(y_true, y_pred)))
    assert restored.from_logits == loss.from_logits


def test_sample_weights_multiply_contributions():
    labels, logits = RNG.randint(0, 3, 4), RNG.normal(size=(4, 3)).astype("float32")
    loss = SpectralRisk(CROSS_ENTROPY, "extremile", 2.0)
    values = ops.convert_to_numpy(loss.call(labels, logits))
    weights = np.array([0.25, 1.0, 2.0, 0.5], "float32")
    got = float(loss(labels, logits, sample_weight=weights))
    assert got == pytest.approx((values * weights).mean())


def test_train_steps_see_logits_and_losses_per_sample():
    assert CVaR(CROSS_ENTROPY).from_logits and not CVaR("mse").from_logits
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model = kr.models.VAT(net, epsilon=0.1, seed=0)
    model.compile("sgd", CVaR(CROSS_ENTROPY, 0.5))
    x = RNG.rand(8, 4).astype("float32")
    assert np.isfinite(model.fit(x, np.arange(8) % 3, verbose=0).history["loss"]).all()


def test_huge_losses_have_finite_gradients():
    logits = np.array([[1e4, -1e4, 0], [-1e4, 1e4, 0], [0, 0, 0]], "float32")
    for penalty in ("chi2", "kl"):
        loss = SpectralRisk(CROSS_ENTROPY, "cvar", 0.5, 0.1, penalty)
        kr.testing.assert_finite_gradients(lambda z: loss.call(np.zeros(3), z), logits)  # noqa: B023


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: CVaR("mse", 0.0),
            "`tail` must be a number above 0 and at most 1. Received: tail=0.0",
        ),
        (lambda: CVaR("mse", 1.5), "`tail` must be .*at most 1"),
        (lambda: CVaR(None), "`loss` must be a loss"),
        (lambda: SpectralRisk("mse", "superquantile"), "`spectrum` must be one of 'cvar'"),
        (lambda: SpectralRisk("mse", "extremile", 0.5), "`parameter` must be .*at least 1"),
        (lambda: SpectralRisk("mse", "esrm", 0.0), "`parameter` must be a number above 0"),
        (lambda: SpectralRisk("mse", shift_cost=-1), "`shift_cost` must be .*at least 0"),
        (lambda: SpectralRisk("mse", penalty="tv"), "`penalty` must be one of 'chi2', 'kl'"),
        (lambda: spectral_weights(np.ones((2, 2))), r"`losses` must be a vector.*\(2, 2\)"),
        (
            lambda: CVaR(lambda y_true, y_pred: ops.mean(y_pred))(np.ones(3), np.ones(3)),
            "must give a value per sample",
        ),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
