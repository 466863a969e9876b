"""layers.LegendreLink: a gradient of convex functions, then log-probabilities."""

import keras
import numpy as np
import pytest
from keras import ops
from sklearn.datasets import load_digits

import keras_regularize as kr
from keras_regularize.layers import LegendreLink
from keras_regularize.testing._common import fused

RNG = np.random.RandomState(0)


def link(size=3, **arguments):
    """A built layer with random weights, biases included."""
    layer = LegendreLink(**arguments)
    layer.build((None, size))
    layer.set_weights([RNG.normal(size=w.shape) for w in layer.get_weights()])
    return layer


def scores_of(layer, x):
    """What the blocks make of scores: differences of log-probabilities to the last class."""
    log_p = ops.convert_to_numpy(layer(np.asarray(x, "float32"))).astype("float64")
    np.testing.assert_allclose(np.exp(log_p).sum(-1), 1.0, rtol=1e-5)
    return log_p[..., :-1] - log_p[..., -1:]


def test_a_block_is_strictly_monotone_and_a_gradient():
    layer = link(hidden_units=6, depth=3, blocks=1)
    x, y = RNG.normal(size=(2, 200, 3)) * 2
    floor = np.log1p(np.exp(layer.get_weights()[1][0]))  # softplus(w0)
    products = np.sum((scores_of(layer, x) - scores_of(layer, y)) * (x - y), axis=-1)
    assert (products >= 0.999 * floor * np.sum((x - y) ** 2, axis=-1)).all()
    steps = 1e-2 * np.eye(3)
    jacobian = np.stack([scores_of(layer, x[:5] + e) - scores_of(layer, x[:5] - e) for e in steps])
    np.testing.assert_allclose(jacobian, np.transpose(jacobian, (2, 1, 0)), atol=1e-4)


def test_two_classes_have_an_increasing_link_over_any_leading_axes():
    layer = link(size=1, blocks=3)
    x = np.linspace(-20, 20, 60).reshape(3, 20, 1)
    out = scores_of(layer, x)
    assert out.shape == (3, 20, 1) and (np.diff(out.ravel()) > 0).all()


def test_without_the_convex_part_it_is_softmax_of_a_scaled_score():
    layer = link(blocks=1, depth=1)
    weights = layer.get_weights()
    weights[0], weights[1] = np.array([-100.0]), np.array([0.3])
    layer.set_weights(weights)
    x = RNG.normal(size=(5, 3))
    np.testing.assert_allclose(scores_of(layer, x), np.log1p(np.exp(0.3)) * x, rtol=1e-4, atol=1e-5)


def test_adapt_normalizes_on_a_batch():
    layer = LegendreLink(hidden_units=4, depth=2, blocks=2)
    x = (3 + 5 * RNG.normal(size=(400, 2))).astype("float32")
    layer.adapt(x)
    for block in layer.gradients:
        hidden, weights = block.hidden[0], [w.numpy() for w in block.hidden[0]]
        h = np.log1p(np.exp(x @ block.kernel.numpy()))
        z = h @ np.log1p(np.exp(weights[0])) / 4 + x @ weights[2]
        z = (z + hidden.shift.numpy()) * (np.exp(hidden.log_scale.numpy()) + 1e-3)
        np.testing.assert_allclose(z.mean(0), 0.0, atol=1e-3)
        np.testing.assert_allclose(z.std(0), 1.0, atol=1e-3)
        x = ops.convert_to_numpy(block(x))
    layer.adapt(np.ones((4, 2), "float32"))  # Constant columns.
    assert np.isfinite(ops.convert_to_numpy(layer(np.ones((1, 2), "float32")))).all()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"hidden_units": 3}, "`hidden_units` must be even"),
        ({"hidden_units": 0}, "`hidden_units` must be an integer of at least 2"),
        ({"depth": 0}, "`depth` must be an integer of at least 1"),
        ({"blocks": 0}, "`blocks` must be an integer of at least 1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        LegendreLink(**arguments)
    with pytest.raises(ValueError, match="needs a known number of scores"):
        LegendreLink()(keras.KerasTensor((2, None)))


@pytest.mark.rotating
def test_learns_digits():
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(9), LegendreLink(2, 2, 1)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(0.01, weight_decay=0.1), loss)
    model.fit(x[:600], y[:600], batch_size=100, epochs=25, verbose=0)
    predicted = model.predict(x[600:], batch_size=1200, verbose=0).argmax(-1)
    assert np.mean(predicted == y[600:]) > 0.8


def test_the_gradient_reaches_every_weight():
    layer = link(hidden_units=4, depth=3)
    variables, x = (
        layer.trainable_variables,
        ops.convert_to_tensor(RNG.normal(size=(6, 3)).astype("float32")),
    )

    def first(weights):
        with keras.StatelessScope(state_mapping=list(zip(variables, weights))):
            return -ops.mean(layer(x)[:, 0])

    gradients = fused(kr.autodiff.grad(first))([v.value for v in variables])
    assert all(np.abs(ops.convert_to_numpy(g)).max() > 0 for g in gradients)
