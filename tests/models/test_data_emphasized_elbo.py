"""Weight decay that is learned with the weights."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_regularize as kr
from keras_regularize.testing._common import to_numpy

X = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
Y = X.sum(-1, keepdims=True)


def network(hidden=None):
    keras.utils.set_random_seed(0)
    layers = [] if hidden is None else [keras.layers.Dense(hidden, "tanh", name="backbone")]
    return keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(1, name="head")])


def divergence(w, log_scale, size):
    """Of the formula, at the best variance."""
    scale = np.exp(log_scale)
    tau = ((w**2).sum() + size * scale**2) / size
    return 0.5 * size * (np.log(tau) - 2 * log_scale)


@pytest.mark.everywhere
@pytest.mark.parametrize("posterior", ["isotropic", "diagonal"])
def test_a_step_is_that_of_the_formula(posterior, monkeypatch):
    noise = {(3, 1): np.array([[0.5], [-1.0], [2.0]]), (1,): np.array([-0.7])}
    monkeypatch.setattr(
        keras.random,
        "normal",
        lambda shape, dtype=None, seed=None: ops.convert_to_tensor(
            noise[tuple(shape)], dtype=dtype
        ),
    )
    net = network()
    model = kr.models.DataEmphasizedELBo(net, 8, 2.0, posterior, initial_scale=0.3, clip_norm=None)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    w, b = (to_numpy(v).astype("float64") for v in net.trainable_variables)
    raw = np.log(np.expm1(0.3))
    logged = model.train_on_batch(X, Y)

    def loss(w, b, raw_w, raw_b):
        scales = [np.log1p(np.exp(r)) for r in (raw_w, raw_b)]
        moved = X @ (w + scales[0] * noise[(3, 1)]) + b + scales[1] * noise[(1,)]
        both = np.concatenate([w.ravel(), b])
        variances = [np.full(w.shape, scales[0] ** 2), np.full(b.shape, scales[1] ** 2)]
        variances = np.concatenate(
            [np.broadcast_to(v, p.shape).ravel() for v, p in zip(variances, (w, b))]
        )
        tau = ((both**2).sum() + variances.sum()) / 4
        kl = 0.5 * (4 * np.log(tau) - np.log(variances).sum())
        return ((moved - Y) ** 2).mean() + kl / 16

    start = [w, b, np.full(w.shape, raw), np.full(b.shape, raw)]
    slopes = []
    for k, part in enumerate(start):
        slope = np.zeros_like(part)
        for place in np.ndindex(part.shape):
            both = []
            for sign in (1, -1):
                moved = [p.copy() for p in start]
                moved[k][place] += sign * 1e-5
                both.append(loss(*moved))
            slope[place] = (both[0] - both[1]) / 2e-5
        slopes.append(slope)
    assert float(logged) == pytest.approx(loss(*start), rel=1e-4)
    for value, old, slope in zip(net.trainable_variables, start, slopes):
        np.testing.assert_allclose(to_numpy(value), old - 0.1 * slope, rtol=1e-3, atol=1e-5)
    scales = model.posterior_scale
    if posterior == "isotropic":
        moved = raw - 0.1 * (slopes[2].sum() + slopes[3].sum())
        assert scales == pytest.approx(np.log1p(np.exp(moved)), rel=1e-3)
    else:
        for scale, slope in zip(scales, slopes[2:]):
            np.testing.assert_allclose(scale, np.log1p(np.exp(raw - 0.1 * slope)), rtol=1e-3)


def test_prior_variances_are_the_best_and_say_the_weight_decay():
    net = network(4)
    model = kr.models.DataEmphasizedELBo(net, 50, prior_groups="layer", initial_scale=0.2)
    size = sum(int(np.prod(v.shape)) for v in net.trainable_variables)
    for name, parts in (("backbone", net.layers[0].weights), ("head", net.layers[1].weights)):
        flat = np.concatenate([to_numpy(v).ravel() for v in parts])
        ((key, variance),) = [(k, v) for k, v in model.prior_variances.items() if k.endswith(name)]
        assert variance == pytest.approx((flat**2).mean() + 0.04, rel=1e-4)
        assert model.weight_decay[key] == pytest.approx(1 / (size * variance), rel=1e-4)
    ordinary = kr.models.DataEmphasizedELBo(net, 50, 1.0)
    assert ordinary.weight_decay["all"] == pytest.approx(1 / (50 * ordinary.prior_variances["all"]))


@pytest.mark.everywhere
def test_initial_prior_means_pull_to_the_pretrained_weights_and_are_saved(tmp_path):
    net = network(4)
    model = kr.models.DataEmphasizedELBo(
        net, 8, prior_means={"backbone": "initial", "head": 0.0}, initial_scale=0.1, seed=0
    )
    assert model.prior_variances["backbone"] == pytest.approx(0.01, rel=1e-4)
    assert model.prior_variances["head"] > 0.02
    model.compile(keras.optimizers.SGD(0.05), "mse")
    model.fit(X, Y, epochs=2, batch_size=4, verbose=0)
    variances = model.prior_variances
    assert variances["backbone"] > 0.0101
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.prior_variances == pytest.approx(variances, rel=1e-5)
    assert loaded.posterior_scale == pytest.approx(model.posterior_scale, rel=1e-5)
    np.testing.assert_allclose(loaded.predict(X, verbose=0), net.predict(X, verbose=0), rtol=1e-5)


def test_gradients_of_each_group_are_clipped():
    net = network(4)
    model = kr.models.DataEmphasizedELBo(net, 8, prior_groups="layer", clip_norm=0.01)
    model.compile(keras.optimizers.SGD(1.0), "mse")
    before = [to_numpy(v).copy() for v in net.trainable_variables]
    model.train_on_batch(X, 100 * Y)
    moves = [to_numpy(v) - old for v, old in zip(net.trainable_variables, before)]
    for pair in (moves[:2], moves[2:]):
        assert np.sqrt(sum((m**2).sum() for m in pair)) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"dataset_size": 0}, "`dataset_size`"),
        ({"data_emphasis": -1.0}, "`data_emphasis`"),
        ({"posterior": "full"}, "`posterior`"),
        ({"prior_groups": "kernel"}, "`prior_groups`"),
        ({"prior_groups": {"head": ["head"]}}, "in none or several"),
        ({"prior_groups": {"a": ["head", "backbone"], "b": ["tail"]}}, "without any"),
        ({"prior_means": {"backbone": "initial"}}, "in none or several"),
        ({"prior_groups": "layer", "prior_means": {"tail": 0.0}}, "must name groups"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        kr.models.DataEmphasizedELBo(network(2), **{"dataset_size": 8, **arguments})


def test_needs_weights_that_stay_the_same():
    with pytest.raises(ValueError, match="not built"):
        kr.models.DataEmphasizedELBo(keras.Sequential([keras.layers.Dense(1)]), 8)
    net = network(2)
    model = kr.models.DataEmphasizedELBo(net, 8)
    net.layers[0].trainable = False
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="set `trainable` before"):
        model.train_on_batch(X, Y)


def test_functions_with_scales_for_each_weight_and_their_errors():
    w = [np.array([[1.0, 2.0]], "float32"), np.array([3.0], "float32")]
    shared = kr.hyper.gaussian_prior_kl(w, 0.5)
    each = kr.hyper.gaussian_prior_kl(w, [np.full_like(part, 0.5) for part in w])
    assert float(shared) == pytest.approx(float(each), rel=1e-6)
    assert float(shared) == pytest.approx(divergence(np.array([1, 2, 3]), np.log(0.5), 3), rel=1e-5)
    assert float(kr.hyper.gaussian_prior_kl(w, 0.5, w)) == pytest.approx(0, abs=1e-5)
    tau = float(kr.hyper.optimal_prior_variance(w, 0.5))
    for other in (0.5 * tau, 2.0 * tau):
        assert float(kr.hyper.gaussian_prior_kl(w, 0.5, None, other)) > float(shared)
    with pytest.raises(ValueError, match="Prior means must have the shapes"):
        kr.hyper.gaussian_prior_kl(w, 0.5, [w[1], w[0]])
    with pytest.raises(ValueError, match="Received: 2 weights, 1 means"):
        kr.hyper.gaussian_prior_kl(w, 0.5, w[:1])
    with pytest.raises(ValueError, match="`prior_means`"):
        kr.hyper.data_emphasized_elbo(0.5, [w], 0.5, 10, prior_means=[None, None])


@pytest.mark.everywhere
@pytest.mark.parametrize(
    "call, message",
    [
        (lambda w: kr.hyper.gaussian_prior_kl(w, 0.0), "`posterior_scale` must be a number above"),
        (lambda w: kr.hyper.gaussian_prior_kl(w, ops.convert_to_tensor(-1.0)), "down to -1"),
        (lambda w: kr.hyper.optimal_prior_variance(w, [w[0], -w[1]]), "down to -3"),
        (lambda w: kr.hyper.gaussian_prior_kl(w, 0.1, None, -1.0), "`prior_variance` must be"),
        (lambda w: kr.hyper.gaussian_prior_kl(w, 0.1, None, np.zeros(())), "`prior_variance` must"),
        (lambda w: kr.hyper.gaussian_prior_kl(w, 0.1, None, np.ones(2)), "must be a scalar"),
        (lambda w: kr.hyper.gaussian_prior_kl(w, np.ones(2)), "must be a scalar, or a list"),
        (lambda w: kr.hyper.optimal_prior_variance(w, [1.0, 1.0]), "scales must have the shapes"),
        (lambda w: kr.hyper.gaussian_prior_kl(w[0][:0], 0.1), "at least one weight"),
        (lambda w: kr.hyper.data_emphasized_elbo(0.5, w[0], 0.1, 9), "`groups` must be a list"),
        (lambda w: kr.hyper.data_emphasized_elbo(w[1], w, 0.1, 9).loss, "mean over the samples"),
        (lambda w: kr.hyper.data_emphasized_elbo(0.5, w, [0.1], 9), "scalar for all groups"),
    ],
)
def test_functions_refuse_what_would_be_nan_or_no_scalar(call, message):
    w = [np.array([[1.0, 2.0]], "float32"), np.array([3.0, 1.0], "float32")]
    with pytest.raises(ValueError, match=message):
        call(w)


@pytest.mark.rotating
def test_it_fits_where_the_ordinary_bound_underfits():
    rng = np.random.default_rng(0)
    x = np.linspace(-1, 1, 20, dtype="float32")[:, None]
    y = np.sin(3 * x) + 0.1 * rng.normal(size=x.shape).astype("float32")
    grid = np.linspace(-1, 1, 100, dtype="float32")[:, None]
    errors = {}
    for emphasis in ("auto", 1.0):
        keras.utils.set_random_seed(0)
        features = kr.layers.RandomFourierFeatures(512, 0.5, trainable_scales=False, seed=0)
        net = keras.Sequential([keras.Input((1,)), features, keras.layers.Dense(1)])
        model = kr.models.DataEmphasizedELBo(net, 20, emphasis, initial_scale=0.1, seed=0)
        # Minus the logarithm of the likelihood with noise of deviation 0.1.
        model.compile(
            keras.optimizers.Adam(0.05), lambda t, p: ops.mean((t - p) ** 2, -1) / (2 * 0.1**2)
        )
        model.fit(
            np.tile(x, (100, 1)),
            np.tile(y, (100, 1)),
            epochs=3,
            batch_size=20,
            shuffle=False,
            verbose=0,
        )
        errors[emphasis] = float(((model.predict(grid, verbose=0) - np.sin(3 * grid)) ** 2).mean())
    assert errors["auto"] < 0.04 and errors[1.0] > 2.5 * errors["auto"], errors
