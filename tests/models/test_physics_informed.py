"""Diffusion with a law: the added terms against the formula, and samples that keep it."""

import keras
import numpy as np
import pytest
from keras import ops
from test_diffusion import STEPS, levels, network

import keras_regularize as kr
from keras_regularize.models import PhysicsInformedDiffusion
from keras_regularize.testing._common import save_and_load
from tests.helpers import array, normal, number

X = normal(6, 3)
SIGNAL, NOISE = levels("cosine")


@keras.saving.register_keras_serializable("tests")
def sphere(x):
    return ops.sum(x * x, axis=-1, keepdims=True) - 1.0


@keras.saving.register_keras_serializable("tests")
def above(x):
    return x - 0.1


@keras.saving.register_keras_serializable("tests")
def size(x):
    return x * x


def posterior_variance():
    before = np.append(1.0, SIGNAL[:-1] ** 2)
    variance = (1 - SIGNAL**2 / before) * (1 - before) / NOISE**2
    return np.append(variance[1], variance[1:])


ALL = {
    "residual_weight": 0.1,
    "inequality": above,
    "inequality_weight": 0.2,
    "objective": size,
    "objective_weight": 0.3,
}


def sampled(net, x, t, steps):
    """The estimate at the end of deterministic steps from time `t` to 0."""
    times = [
        int(np.round(np.float32(t) * np.float32(1 - k / (steps + 1)))) for k in range(steps + 2)
    ]
    for now, after in zip(times, times[1:]):
        estimate = array(net([x[None], np.array([now])]))[0]
        epsilon = (x - SIGNAL[now] * estimate) / NOISE[now]
        x = SIGNAL[after] * estimate + NOISE[after] * epsilon
    return array(net([x[None].astype("float32"), np.array([times[-1]])]))[0]


@pytest.mark.parametrize("estimation, steps", [("mean", 0), ("sample", 0), ("sample", 2)])
def test_what_is_added_equals_the_formula(estimation, steps):
    net = network()
    net.weights[0].assign(20 * net.weights[0])  # The embedding, so that times matter.
    model = PhysicsInformedDiffusion(
        net, sphere, STEPS, **ALL, x0_estimation=estimation, sample_steps=steps, seed=0
    )
    model.compile("sgd", run_eagerly=True)
    outputs = model(X)
    variance, total = posterior_variance(), []
    for i, t in enumerate(array(outputs["time"])):
        seen, x0 = array(outputs["noisy"])[i], array(outputs["prediction"])[i]
        if estimation == "sample":
            x0 = sampled(net, seen, t, steps)
        law = 0.1 * (np.sum(x0**2) - 1) ** 2 + 0.2 * np.mean(np.maximum(x0 - 0.1, 0) ** 2)
        total.append(law / (2 * variance[t]) + 0.3 * np.mean(x0**2))
    np.testing.assert_allclose(array(outputs["penalty"]), total, rtol=2e-3)
    weight = np.linspace(0, 2, 6).astype("float32")
    plain = {key: value for key, value in outputs.items() if key != "penalty"}
    losses = [number(model.compute_loss(None, None, given, weight)) for given in (outputs, plain)]
    assert losses[0] - losses[1] == pytest.approx(np.mean(weight * total), rel=5e-3)


def test_without_weight_or_residual_it_is_plain_diffusion():
    def nothing(x):
        return 0.0 * x

    models = [
        kr.models.DenoisingDiffusion(network(), STEPS, seed=0),
        PhysicsInformedDiffusion(network(), sphere, STEPS, residual_weight=0.0, seed=0),
        PhysicsInformedDiffusion(network(), nothing, STEPS, residual_weight=1.0, seed=0),
    ]
    for model in models:
        model.compile(keras.optimizers.SGD(0.1))
    losses = [float(m.train_on_batch(X, return_dict=True)["loss"]) for m in models]
    np.testing.assert_allclose(losses, losses[0], rtol=1e-5)


@pytest.mark.everywhere
def test_compiled_trained_and_saved():
    model = PhysicsInformedDiffusion(
        network(), sphere, STEPS, **ALL, x0_estimation="sample", prediction="v", seed=0
    )
    model.compile("adam")
    assert np.isfinite(model.fit(X, verbose=0).history["loss"]).all()
    loaded = save_and_load(model)
    configs = [{**m.get_config(), "network": None} for m in (model, loaded)]
    assert configs[0] == configs[1]
    drawn = [m.sample(3, steps=4, seed=0) for m in (model, loaded)]
    np.testing.assert_allclose(*drawn, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: PhysicsInformedDiffusion(network(), 1.0), "`residual` must be a function"),
        (
            lambda: PhysicsInformedDiffusion(network(), sphere, objective_weight=1.0),
            "`objective_weight` above 0 needs",
        ),
        (
            lambda: PhysicsInformedDiffusion(network(), sphere, schedule="edm"),
            "`schedule` must be one of",
        ),
        (
            lambda: PhysicsInformedDiffusion(network(), lambda x: ops.sum(x), STEPS)(X),
            "A residual must be",
        ),
        (
            lambda: kr.generative.physics_informed_loss(X, X[:, :2], X, np.zeros(6), STEPS),
            "of one shape",
        ),
        (
            lambda: kr.generative.physics_informed_loss(X, X, X[:2], np.zeros(6, "int32"), STEPS),
            "A residual must be",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.rotating
def test_samples_keep_the_law_better():
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 2048)
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype("float32")
    residuals = {}
    for weight in (0.0, 0.1):
        model = PhysicsInformedDiffusion(
            network(2, 20, 64, depth=2), sphere, 20, residual_weight=weight, seed=0
        )
        model.compile(keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.95))
        model.fit(x, epochs=15, batch_size=128, verbose=0)
        drawn = model.sample(500, seed=0)
        residuals[weight] = np.abs(np.sum(drawn**2, axis=1) - 1).mean()
        assert drawn.std(axis=0).min() > 0.5  # All around.
    assert residuals[0.1] < 0.65 * residuals[0.0], residuals
