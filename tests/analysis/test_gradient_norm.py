"""Input gradient norms against NumPy, and the identities of the bound."""

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.datasets import load_digits

import keras_regularize as kr
from keras_regularize.analysis import gradient_norm_bound, input_gradient_norm

RNG = np.random.RandomState(0)
X, Y = RNG.normal(size=(21, 4)).astype("float32"), RNG.randint(0, 3, 21)
KERNEL = RNG.normal(size=(4, 3)).astype("float32")
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def linear(compiled=True):
    net = keras.Sequential([keras.Input((4,)), layers.Dense(3, use_bias=False)])
    net.set_weights([KERNEL])
    if compiled:
        net.compile("sgd", LOSS)
    return net


def oracle(kernel, x, y):
    """`(mean squared gradient, mean loss)` of a linear classifier."""
    scores = x.astype("float64") @ kernel
    probability = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    gradient = (probability - np.eye(3)[y]) @ kernel.T
    return (gradient**2).sum(-1).mean(), -np.log(probability[np.arange(len(y)), y]).mean()


@pytest.mark.parametrize("batch_size", [1, 8, 21, 100])
def test_a_linear_model_has_the_norm_of_the_formula(batch_size):
    result = input_gradient_norm(linear(), X, Y, batch_size=batch_size)
    np.testing.assert_allclose(result, oracle(KERNEL, X, Y), rtol=1e-5)
    assert result.mean_squared_gradient == result[0]
    assert result.mean_loss == result[1]


def test_structures_losses_and_wrappers_agree():
    expected = oracle(KERNEL, X, Y)
    np.testing.assert_allclose(input_gradient_norm(linear(False), X, Y, LOSS), expected, rtol=1e-5)
    parts = {"a": keras.Input((1,), name="a"), "b": keras.Input((3,), name="b")}
    joined = layers.Concatenate()(list(parts.values()))
    net = keras.Model(parts, layers.Activation("softmax")(linear()(joined)))
    wrapper = kr.models.InputGradientPenalty(net)
    wrapper.compile("sgd", "categorical_crossentropy")
    x, rows = {"a": X[:, :1], "b": X[:, 1:]}, np.eye(3, dtype="float32")[Y]
    np.testing.assert_allclose(input_gradient_norm(wrapper, x, rows), expected, rtol=1e-4)
    pixels = keras.Sequential([keras.Input((2, 2)), layers.Flatten(), linear()])
    images = X.reshape(-1, 2, 2)
    np.testing.assert_allclose(input_gradient_norm(pixels, images, Y, LOSS), expected, rtol=1e-5)


def test_noise_moves_the_weights_of_the_measurement_and_not_the_model():
    net = linear()
    measured = input_gradient_norm(net, X, Y, weight_noise=0.5, samples=3, seed=1)
    np.testing.assert_array_equal(net.get_weights()[0], KERNEL)
    random = np.random.default_rng(1)
    draws = [oracle(KERNEL + 0.5 * random.standard_normal((4, 3)), X, Y) for _ in range(3)]
    np.testing.assert_allclose(measured, np.mean(draws, axis=0), rtol=1e-5)
    net.fit(X, Y, verbose=0)


def test_batch_normalization_and_dropout_do_not_mix_samples():
    net = keras.Sequential(
        [keras.Input((4,)), layers.BatchNormalization(), layers.Dropout(0.5), linear()]
    )
    before = net.get_weights()
    result = input_gradient_norm(net, X, Y, LOSS, batch_size=8)
    scaled = KERNEL / np.sqrt(1 + net.layers[0].epsilon)
    np.testing.assert_allclose(result, oracle(scaled, X, Y), rtol=1e-5)
    for a, b in zip(net.get_weights(), before):
        np.testing.assert_array_equal(a, b)


def test_on_new_data_it_tells_apart_what_generalizes():
    # The paper's comparison: a linear classifier, one hidden layer and three, with growing gaps.
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = (x[order] / 16).astype("float32"), y[order]
    seen, unseen, gaps = [], [], []
    for depth in (0, 1, 3):
        keras.utils.set_random_seed(0)
        hidden = [layers.Dense(64, "relu") for _ in range(depth)]
        net = keras.Sequential([keras.Input((64,)), *hidden, layers.Dense(10)])
        net.compile(keras.optimizers.Adam(3e-3), LOSS)
        net.fit(x[:500], y[:500], batch_size=100, epochs=40, verbose=0)
        train = input_gradient_norm(net, x[:500], y[:500])
        test = input_gradient_norm(net, x[500:], y[500:])
        seen.append(train.mean_squared_gradient)
        unseen.append(test.mean_squared_gradient)
        gaps.append(test.mean_loss - train.mean_loss)
    assert gaps[1] > gaps[0] + 0.015 and gaps[2] > gaps[1] + 0.015
    assert unseen[1] > 1.5 * unseen[0] and unseen[2] > 2 * unseen[1]
    # On the data of the training, which the deepest has learnt by heart, the order is the opposite.
    assert seen[2] < 0.5 * seen[1] < seen[0]


def test_errors_of_the_norm():
    for arguments, message in [
        ({"weight_noise": -1}, "`weight_noise` must be a number at least 0"),
        ({"samples": 0}, "`samples` must be an integer of at least 1"),
        ({"batch_size": 0}, "`batch_size` must be an integer of at least 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            input_gradient_norm(linear(), X, Y, **arguments)
    with pytest.raises(ValueError, match="at least one sample"):
        input_gradient_norm(linear(), X[:0], Y[:0])
    with pytest.raises(ValueError, match="loss=None"):
        input_gradient_norm(linear(False), X, Y)
    words = keras.Sequential(
        [
            keras.Input((2,), dtype="int32"),
            layers.Embedding(3, 2),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    with pytest.raises(ValueError, match="Only floating inputs can be perturbed"):
        input_gradient_norm(words, np.zeros((4, 2), "int32"), np.zeros(4), LOSS)


BASE = {
    "empirical_loss": 0.35,
    "kl_divergence": 120.0,
    "num_samples": 1000,
    "temperature": 1000.0,
    "mean_loss": 0.5,
    "mean_squared_gradient": 0.8,
}


def bound(**changes):
    return gradient_norm_bound(**{**BASE, **changes})


def test_the_bound_is_monotone_linear_in_the_gradient_and_continuous_at_zero():
    assert isinstance(bound(), float)
    for name in ("kl_divergence", "mean_loss", "mean_squared_gradient"):
        assert bound(**{name: 2 * BASE[name]}) > bound()
    assert bound(delta=0.5) < bound()
    without = bound(mean_squared_gradient=0.0)
    assert without == pytest.approx(0.35 + (120 - np.log(0.05)) / 1000)
    assert bound(mean_squared_gradient=1.6) - without == pytest.approx(2 * (bound() - without))
    limit = without + 0.8 * 1000 / 2000
    assert bound(mean_loss=0.0) == pytest.approx(limit)
    assert bound(mean_loss=1e-12) == pytest.approx(limit)
    assert bound(mean_loss=1e9) == np.inf
    assert bound(mean_loss=1e9, mean_squared_gradient=0.0) == pytest.approx(without)


def test_the_bound_takes_arrays():
    temperatures = np.array([10.0, 1000.0])
    values = bound(temperature=temperatures)
    np.testing.assert_allclose(values, [bound(temperature=t) for t in temperatures])


@pytest.mark.parametrize(
    "name, value",
    [
        ("temperature", 0.0),
        ("mean_loss", -1.0),
        ("mean_loss", "b"),
        ("delta", 0),
        ("num_samples", 0),
    ],
)
def test_errors_of_the_bound(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be .*Received: {name}="):
        bound(**{name: value})


def test_draws_from_the_prior_cost_their_exponential_moment():
    losses, gradients = np.array([0.2, 0.5, 1.5]), np.array([0.1, 0.8, 2.0])
    rest = {k: v for k, v in BASE.items() if k not in ("mean_loss", "mean_squared_gradient")}
    without = bound(mean_squared_gradient=0.0)
    for temperature in (50.0, 300.0):
        rest["temperature"] = temperature
        terms = gradients * np.expm1(temperature * losses / 1000) / (2 * losses)
        expected = np.log(np.mean(np.exp(temperature * terms))) / temperature
        without = bound(mean_squared_gradient=0.0, temperature=temperature)
        got = gradient_norm_bound(**rest, prior_draws=(losses, gradients))
        assert isinstance(got, float) and got - without == pytest.approx(expected)
        # Above the average of the terms, and below what holds for every weight.
        largest = bound(temperature=temperature, mean_loss=1.5, mean_squared_gradient=2.0)
        assert without + terms.mean() <= got <= largest
        one = gradient_norm_bound(**rest, prior_draws=([0.5], [0.8]))
        assert one == pytest.approx(bound(temperature=temperature))
    rest["temperature"] = np.array([50.0, 300.0, 1e9])
    several = gradient_norm_bound(**rest, prior_draws=(losses, gradients))
    assert several.shape == (3,) and several[1] == pytest.approx(got) and several[2] == np.inf
    for arguments, message in [
        ({}, "Either `mean_loss` and `mean_squared_gradient` or `prior_draws`"),
        ({"mean_loss": 0.5}, "Either `mean_loss`"),
        ({"mean_loss": 0.5, "prior_draws": (losses, gradients)}, "Either `mean_loss`"),
        ({"prior_draws": (losses, gradients[:2])}, "two vectors of one length"),
        ({"prior_draws": (-losses, gradients)}, "`mean_loss` must be at least 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            gradient_norm_bound(**rest, **arguments)


def test_the_exponential_moment_of_gaussian_data_obeys_the_bound():
    # A loss linear in standard Gaussian data: log E exp(a (E l - l)) = a² g / 2, what b = 0 gives times a.
    slope, a = np.array([0.6, -0.3]), 0.7
    x = np.random.RandomState(0).normal(size=(200_000, 2))
    moment = np.log(np.mean(np.exp(-a * (x @ slope))))
    g = slope @ slope
    term = gradient_norm_bound(0.0, 0.0, 1, a, 0.0, g, delta=1.0)
    assert moment == pytest.approx(a * term, rel=0.02)
