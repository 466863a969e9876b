"""models.MixtureVAE, generative.invertible_chart, layers.AffineCoupling and inverse.manifold_descent."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_regularize as kr
from keras_regularize.generative import invertible_chart, mixture_vae_loss
from keras_regularize.models.autoencoders import mixture_vae
from tests.helpers import array, normal, number

# XLA takes long over the many small operations of couplings, which TensorFlow leaves to it by default.
COMPILE = {"jit_compile": False} if keras.backend.backend() == "tensorflow" else {}


def circle(n=200, noise=0.01):
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, n)
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return (points + noise * rng.normal(size=points.shape)).astype("float32")


def mixture(charts=2, blocks=1, units=8, **arguments):
    keras.utils.set_random_seed(0)
    parts = [invertible_chart(2, 1, blocks, units) for _ in range(charts)]
    given = {"encoder_noise": 0.02, "decoder_noise": 0.1, "pretrain_epochs": 0, "seed": 0}
    return kr.models.MixtureVAE(parts, **{**given, **arguments})


def linear_chart():
    """The first axis of the plane, by a pair."""
    encoder, decoder = layers.Dense(1, use_bias=False), layers.Dense(2, use_bias=False)
    encoder.build((None, 2)), decoder.build((None, 1))
    encoder.set_weights([np.array([[1.0], [0.0]])])
    decoder.set_weights([np.array([[1.0, 0.0]])])
    return encoder, decoder


def test_limits_of_the_loss():
    bounds = 3 * normal(6, 4)
    np.testing.assert_allclose(array(mixture_vae_loss(bounds[:, :1], [0.0])), bounds[:, 0])
    logs = np.log([0.1, 0.2, 0.3, 0.4])
    evidence = -np.log(np.exp(logs - bounds).sum(1))
    assert (array(mixture_vae_loss(bounds, logs)) >= evidence - 1e-5).all()
    far = 1e4 * bounds
    found = array(mixture_vae_loss(far, logs))
    np.testing.assert_allclose(found, (far - logs).min(1), rtol=1e-5)
    # A chart without weight has no part.
    found = array(mixture_vae_loss(bounds[:, :2], np.array([0.0, -np.inf])))
    np.testing.assert_allclose(found, bounds[:, 0], rtol=1e-5)
    with pytest.raises(ValueError, match=r"\(batch, charts\)"):
        mixture_vae_loss(bounds, logs[:3])


@pytest.mark.parametrize("features", [2, 5])
def test_a_coupling_is_undone(features):
    layer = kr.layers.AffineCoupling(8)
    x = normal(4, 3, features)
    y = layer(x)
    assert np.abs(array(y) - x).max() > 0.01
    np.testing.assert_allclose(array(layer(y, inverse=True)), x, atol=1e-5)
    with pytest.raises(ValueError, match="at least two features"):
        kr.layers.AffineCoupling()(np.ones((2, 1)))
    chart, z = invertible_chart(features, 1, 2, 4), normal(3, 1)
    np.testing.assert_allclose(array(chart.encode(chart.decode(z))), z, atol=1e-5)
    with pytest.raises(ValueError, match="`latent` must be an integer"):
        invertible_chart(2, 3)


def test_codes_have_the_density_of_the_energy():
    grid = np.linspace(-1.2, 1.2, 24001)[:, None]
    density = np.exp(-array(mixture_vae._energy(ops.convert_to_tensor(grid))))
    share = np.cumsum(density) / density.sum()
    uniform = ops.convert_to_tensor(np.linspace(-0.999, 0.999, 41)[:, None], "float32")
    codes = array(mixture_vae._codes(uniform))[:, 0]
    expected = np.interp(np.linspace(-0.999, 0.999, 41), 2 * share - 1, grid[:, 0])
    np.testing.assert_allclose(codes, expected, atol=2e-3)
    assert array(mixture_vae._energy(ops.convert_to_tensor([[0.5]]))) == 0


@pytest.mark.everywhere
def test_bounds_responsibilities_and_the_loss_of_a_step():
    model, x = mixture(), circle(12)
    model.compile("sgd", **COMPILE)
    bounds, shares = array(model(x)), array(model.responsibilities(x))
    points = 0
    for k, chart in enumerate(model.charts):
        codes = array(chart.encode(x))
        decoded = array(chart.decode(codes))
        energy = array(mixture_vae._energy(ops.convert_to_tensor(codes)))
        expected = energy + ((x - decoded) ** 2).sum(1) / (2 * 0.1**2) - np.log(0.02)
        np.testing.assert_allclose(bounds[:, k], expected, rtol=1e-4)
        points = points + shares[:, k : k + 1] * decoded
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(model.predict(x, verbose=0), points, rtol=1e-4, atol=1e-5)
    expected = array(mixture_vae_loss(bounds, np.log([0.5, 0.5]))).mean()
    assert model.evaluate(x, verbose=0) == pytest.approx(expected, rel=1e-4)


def test_centres_are_far_apart_and_phases_follow(tmp_path):
    x = np.concatenate([circle(60), circle(60) + [9.0, 0.0]]).astype("float32")
    nearest = mixture_vae._nearest(x, 2, np.random.default_rng(0))
    assert nearest.shape == (120, 2) and (nearest.sum(0) == 100).all()
    assert (nearest[:60].all(0) != nearest[60:].all(0)).all()  # Each has one of the circles whole.
    model = mixture(pretrain_epochs=2, train_weights_after=2, lipschitz_epochs=1)
    model.compile("adam", run_eagerly=True)  # Each phase would be compiled anew.
    first = array(model.charts[0].couplings[0].layers[0].kernel)
    history = model.fit(x, batch_size=60, epochs=4, verbose=0)
    assert history.epoch == [0, 1, 2, 3] and len(history.history["loss"]) == 4
    assert not np.allclose(first, array(model.charts[0].couplings[0].layers[0].kernel))
    assert number(model.pretrained) == 1
    assert np.exp(array(model.log_weights)).sum() == pytest.approx(1, rel=1e-5)
    assert array(model.sample(7, seed=1)).shape == (7, 2)
    model.save(tmp_path / "mixture.keras")
    loaded = keras.saving.load_model(tmp_path / "mixture.keras")
    np.testing.assert_allclose(
        loaded.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-4, atol=1e-5
    )
    history = loaded.fit(x, batch_size=60, initial_epoch=4, epochs=5, verbose=0)
    assert history.epoch == [4]
    with pytest.raises(ValueError, match="need all data in one array"):
        loaded.fit(iter([x]), epochs=9, steps_per_epoch=1)
    with pytest.raises(ValueError, match="takes no labels"):
        loaded.fit(x, x)


def test_the_lipschitz_term_is_in_its_epochs_alone():
    model = mixture(1, lipschitz_weight=1e5, lipschitz_epochs=1)
    model.compile(keras.optimizers.SGD(0.0), **COMPILE)
    losses = model.fit(circle(16), epochs=2, verbose=0).history["loss"]
    assert losses[0] > 10 * abs(losses[1])
    check_lipschitz(model)


@pytest.mark.everywhere
@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="float64 is a flag of the whole process"
)
def test_the_lipschitz_term_in_double_precision():
    keras.config.set_dtype_policy("float64")
    try:
        model = mixture(1, lipschitz_weight=1e5)
    finally:
        keras.config.set_dtype_policy("float32")
    check_lipschitz(model)


def check_lipschitz(model):
    model._lipschitz = True
    model(circle(4000), training=True)
    chart, rng = model.charts[0], np.random.default_rng(0)
    uniform = ops.convert_to_tensor(rng.uniform(-1, 1, (4000, 1)), model.compute_dtype)
    codes = array(mixture_vae._codes(uniform))
    moved = codes + 0.02 * rng.normal(size=(4000, 1)).astype(codes.dtype)
    change = np.square(array(chart.decode(moved)) - array(chart.decode(codes))).sum(1).mean()
    assert number(sum(model.losses)) == pytest.approx(1e5 * change / 0.1**2, rel=0.1)


def test_pairs_and_wrong_arguments():
    model = kr.models.MixtureVAE([linear_chart()], pretrain_epochs=0)
    x = np.array([[0.5, 0.0], [0.3, 0.1]], "float32")
    expected = np.array([0.0, 0.01 / 2e-4]) - np.log(0.01)
    np.testing.assert_allclose(array(model(x))[:, 0], expected, rtol=1e-4)
    np.testing.assert_allclose(model.predict(x, verbose=0), [[0.5, 0], [0.3, 0]], atol=1e-6)
    for wrong in ([], None, [layers.Dense(2)], [(1, 2)]):
        with pytest.raises(ValueError, match="must be a"):
            kr.models.MixtureVAE(wrong)
    with pytest.raises(ValueError, match="know the shape of a code"):
        mixture().sample(1)
    with pytest.raises(ValueError, match="shape of the data"):
        bad = kr.models.MixtureVAE([(layers.Dense(1), layers.Dense(3))])
        bad(x)


# On the manifold


def test_directions_without_length_are_left_out():
    jacobian = np.array([[[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]])
    found = array(kr.inverse.chart_gradient(jacobian, np.array([[2.0, 2.0]])))
    np.testing.assert_allclose(found, [[1.0, 1.0, 0.0]], atol=1e-5)
    found = array(kr.inverse.chart_gradient(0.0 * jacobian, np.array([[2.0, 2.0]])))
    np.testing.assert_array_equal(found, 0.0)
    with pytest.raises(ValueError, match=r"Jacobians \(batch, n, d\)"):
        kr.inverse.chart_gradient(jacobian, np.ones((1, 3)))


@pytest.mark.everywhere
@pytest.mark.parametrize("retraction", ["project", "chart"])
def test_a_linear_chart_is_projected_on(retraction):
    model = kr.models.MixtureVAE([linear_chart()], pretrain_epochs=0)
    target = ops.convert_to_tensor([[0.4, 0.7], [-0.2, -1.0]])

    def objective(x):
        return 0.5 * ops.sum(ops.square(x - target), axis=-1)

    start = np.array([[-0.5, 0.0], [0.9, 0.0]])
    found = kr.inverse.manifold_descent(model, objective, start, 1.0, 1, retraction)
    np.testing.assert_allclose(found.points, [[0.4, 0.0], [-0.2, 0.0]], atol=1e-5)
    np.testing.assert_allclose(found.objectives[1], [0.245, 0.5], rtol=1e-4)


def test_steps_that_lead_up_are_not_taken():
    model = kr.models.MixtureVAE([linear_chart()], pretrain_epochs=0)

    def objective(x):
        return ops.sum(ops.square(x), axis=-1)

    found = kr.inverse.manifold_descent(model, objective, np.array([0.5, 0.0]), 10.0, 12)
    assert found.points.shape == (2,) and found.objectives.shape == (13,)
    assert (np.diff(found.objectives) <= 1e-6).all() and found.objectives[-1] < 1e-3
    with pytest.raises(ValueError, match="a value per point"):
        kr.inverse.manifold_descent(model, ops.sum, np.ones((3, 2)))
    with pytest.raises(ValueError, match="`start` must be points"):
        kr.inverse.manifold_descent(model, objective, np.ones((1, 2, 2)))


# The effect


@pytest.mark.rotating
def test_two_charts_cover_the_circle_that_one_cannot():
    x, errors = circle(300), []
    for charts in (1, 2):
        model = mixture(charts, 2, 24, decoder_noise=0.05, pretrain_epochs=30, lipschitz_epochs=0)
        model.compile(keras.optimizers.Adam(0.01, clipnorm=2.0), **COMPILE)
        model.fit(x, batch_size=300, epochs=20, verbose=0)
        errors.append(np.linalg.norm(model.predict(x, verbose=0) - x, axis=1).mean())
    assert errors[1] < 0.5 * errors[0], errors
