"""What the sharpness-aware methods are for: they end where the loss is flatter."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from sklearn.datasets import load_digits

import keras_regularize as kr
from keras_regularize.testing._common import fused


def digits(samples=200):
    """Images and labels, half of them random."""
    x, y = load_digits(return_X_y=True)
    random = np.random.RandomState(0)
    y = np.where(random.rand(len(y)) < 0.5, random.randint(0, 10, len(y)), y)
    return (x[:samples] / 16).astype("float32"), y[:samples]


def top_eigenvalue(net, x, y, iterations=10):
    """Largest eigenvalue of the Hessian of the loss, by power iteration."""
    batch = kr.autodiff.Batch(x, y)

    def multiply(*weights_and_direction):
        weights, direction = (
            weights_and_direction[: len(start)],
            weights_and_direction[len(start) :],
        )
        loss = lambda w: kr.autodiff.Forward(net, w).loss(batch)  # noqa: E731
        return kr.autodiff.hvp(loss, list(weights), list(direction))[1]

    start = net.get_weights()
    random = np.random.RandomState(1)
    direction = [random.randn(*w.shape) for w in start]
    multiply_fused = fused(multiply)
    for _ in range(iterations):
        norm = np.sqrt(sum(np.sum(d**2) for d in direction))
        direction = [(d / norm).astype("float32") for d in direction]
        product = [ops.convert_to_numpy(p) for p in multiply_fused(*start, *direction)]
        curvature = sum(np.sum(p * d) for p, d in zip(product, direction))
        direction = product
    return curvature


def trained(wrap, x, y):
    keras.utils.set_random_seed(0)
    net = keras.Sequential([keras.Input((64,)), layers.Dense(32, "relu"), layers.Dense(10)])
    model = wrap(net)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss)
    model.fit(x, y, batch_size=50, epochs=60, shuffle=False, verbose=0)
    net.compile("sgd", loss)
    return net


@pytest.mark.parametrize(
    "wrap",
    [
        lambda net: kr.models.FriendlySAM(net, rho=0.3, momentum=0.6),
        lambda net: kr.models.LookSAM(net, rho=1.0, period=2, adaptive=True),
    ],
    ids=["FriendlySAM", "LookSAM"],
)
@pytest.mark.rotating
def test_its_relatives_lower_it_too(wrap):
    x, y = digits()
    plain = top_eigenvalue(trained(lambda net: net, x, y), x, y)
    flat = top_eigenvalue(trained(wrap, x, y), x, y)
    assert 0 < flat < 0.8 * plain, (flat, plain)


def test_sam_lowers_the_largest_curvature_by_a_third():
    x, y = digits()
    plain = top_eigenvalue(trained(lambda net: net, x, y), x, y)
    flat = top_eigenvalue(trained(lambda net: kr.models.SAM(net, rho=0.3), x, y), x, y)
    assert 0 < flat < 0.67 * plain, (flat, plain)
