import keras
import numpy as np
import pytest
from keras import ops

from keras_regularize.losses import MatchingLoss
from keras_regularize.testing._common import fused, values_and_gradients

ACTIVATIONS = {
    "linear": lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.3 * z),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "exponential": np.exp,
}
RNG = np.random.default_rng(0)
Z = np.concatenate([[0.0], 2 * RNG.normal(size=8)]).astype("float32")[:, None]
Y = RNG.normal(size=(9, 1)).astype("float32")


def loss(activation, **options):
    return MatchingLoss(activation, negative_slope=0.3, reduction="none", **options)


def evaluate(*names, y=Y, z=Z):
    """`{name: (values, gradient)}` of the activations."""

    def all_of_them(y, z):
        return [values_and_gradients(lambda z: loss(name)(y, z))(z) for name in names]  # noqa: B023

    results = fused(all_of_them)(y, z)
    return {n: tuple(map(ops.convert_to_numpy, r)) for n, r in zip(names, results)}


def test_value_is_the_integral_and_gradient_the_error():
    for name, (value, gradient) in evaluate(*ACTIVATIONS).items():
        sigma = ACTIVATIONS[name]
        np.testing.assert_allclose(
            gradient, sigma(Z.astype("float64")) - Y, rtol=1e-4, atol=1e-5, err_msg=name
        )
        # The midpoint rule on 20000 intervals from 0 to z.
        steps = (np.arange(20000) + 0.5) / 20000
        t = Z.astype("float64") * steps
        integral = (sigma(t).mean(-1, keepdims=True) - Y) * Z
        np.testing.assert_allclose(value, integral[:, 0], rtol=1e-4, atol=1e-5, err_msg=name)


def test_known_losses_up_to_a_constant():
    labels = (RNG.random((9, 1)) < 0.5).astype("float32")
    value, _ = evaluate("sigmoid", y=labels)["sigmoid"]
    reference = keras.losses.BinaryCrossentropy(from_logits=True, reduction="none")
    np.testing.assert_allclose(
        value, ops.convert_to_numpy(reference(labels, Z)) - np.log(2), rtol=1e-4, atol=1e-5
    )
    counts = RNG.poisson(2.0, (9, 1)).astype("float32")
    value, _ = evaluate("exponential", y=counts)["exponential"]
    reference = keras.losses.Poisson(reduction="none")
    np.testing.assert_allclose(
        value, ops.convert_to_numpy(reference(counts, np.exp(Z))) - 1, rtol=1e-4, atol=1e-5
    )
    value, _ = evaluate("linear")["linear"]
    np.testing.assert_allclose(value, ((Z - Y) ** 2 - Y**2)[:, 0] / 2, rtol=1e-4, atol=1e-5)


def test_extreme_predictions_keep_value_and_gradient():
    z = np.array([[1e4], [-1e4], [90.0], [0.0]], "float32")
    for name, (value, gradient) in evaluate(*ACTIVATIONS, y=0 * z, z=z).items():
        assert np.isfinite(value).all() and np.isfinite(gradient).all(), name
        with np.errstate(over="ignore"):
            expected = ACTIVATIONS[name](z.astype("float64"))
        np.testing.assert_allclose(gradient, np.minimum(expected, np.exp(60.0)), rtol=1e-4)


def test_mean_over_units_and_values_per_position():
    y, z = RNG.normal(size=(2, 4, 3, 2)).astype("float32")
    value = ops.convert_to_numpy(loss("tanh")(y, z))
    by_unit = ops.convert_to_numpy(loss("tanh")(y.reshape(-1), z.reshape(-1)))
    np.testing.assert_allclose(value, by_unit.reshape(4, 3, 2).mean(-1), rtol=1e-5)


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_does_not_stall_where_squared_error_does(name):
    # At w = 0 (relu), and where tanh is saturated on the wrong side.
    x = RNG.normal(size=(200, 5)).astype("float32")
    truth = np.linspace(-1, 1, 5, dtype="float32")
    start = np.zeros(5) if name == "relu" else -30 * truth
    y = ACTIVATIONS[name](x @ truth)[:, None]

    def train(loss, activation):
        neuron = keras.layers.Dense(1, activation=activation, use_bias=False)
        model = keras.Sequential([keras.Input((5,)), neuron])
        neuron.set_weights([start.astype("float32")[:, None]])
        model.compile(keras.optimizers.SGD(0.5 if name == "relu" else 3.0), loss)
        model.fit(x, y, batch_size=200, epochs=60, verbose=0)
        return neuron.get_weights()[0][:, 0]

    assert np.abs(train(MatchingLoss(name), None) - truth).max() < 0.05
    assert np.abs(train("mse", name) - start).max() < 0.2 * np.abs(truth - start).max()


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="`activation` must be one of 'linear', 'relu'.*'gelu'"):
        MatchingLoss("gelu")
    with pytest.raises(ValueError, match="`negative_slope` must be a number at least 0"):
        MatchingLoss("leaky_relu", negative_slope=-1)
    with pytest.raises(ValueError, match="`y_true` must have the shape of `y_pred`"):
        MatchingLoss()(np.zeros((3, 2)), np.zeros((3, 4)))
