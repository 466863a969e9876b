"""R-Drop: the objective and its gradient in float64, which masks are drawn, and what it does."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from sklearn.datasets import load_digits

import keras_regularize as kr

RNG = np.random.RandomState(0)
X, Y = RNG.rand(12, 4).astype("float32"), RNG.randint(0, 3, 12)
WEIGHTS = np.linspace(0.5, 1.5, 12).astype("float32")
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network(rate=0.4, seed=7, last=None):
    keras.utils.set_random_seed(1)
    start = keras.initializers.RandomNormal(stddev=2.0)
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dropout(rate, seed=seed),
            layers.Dense(3, last, kernel_initializer=start, kernel_regularizer="l2"),
        ]
    )


def masks(count, rate=0.4, seed=7):
    """What a dropout layer with this seed multiplies by, a pass after the other."""
    generator = keras.random.SeedGenerator(seed)
    ones = ops.ones((12, 4))
    return [
        np.float64(ops.convert_to_numpy(keras.random.dropout(ones, rate, seed=generator)))
        for _ in range(count)
    ]


def log_softmax(z):
    z = z - z.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def formula(kernel, bias, pair, alpha, weights):
    log_p, log_q = (log_softmax((X * mask) @ kernel + bias) for mask in pair)
    labels = -(log_p + log_q)[np.arange(12), Y] / 2
    p, q = np.exp(log_p), np.exp(log_q)
    agree = ((p - q) * (log_p - log_q)).sum(-1) / 2
    return np.mean(weights * (labels + alpha * agree)) + 0.01 * np.sum(kernel**2)


def test_the_objective_equals_the_formula():
    first, second, third, fourth = masks(4)
    assert np.any(first != second)
    for given in (None, WEIGHTS):
        weights = 1.0 if given is None else np.float64(given)
        net = network()
        model = kr.models.RDrop(net, alpha=1.5)
        model.compile(keras.optimizers.SGD(0.1), LOSS, run_eagerly=True)
        for pair in ((first, second), (third, fourth)):
            kernel, bias = (np.float64(w) for w in net.get_weights())
            loss = float(model.train_on_batch(X, Y, sample_weight=given))
            assert loss == pytest.approx(formula(kernel, bias, pair, 1.5, weights), rel=1e-5)
            for i, (before, after) in enumerate(zip((kernel, bias), net.get_weights())):
                for where in np.ndindex(before.shape):
                    ends = []
                    for step in (1e-6, -1e-6):
                        moved = [kernel.copy(), bias.copy()]
                        moved[i][where] += step
                        ends.append(formula(*moved, pair, 1.5, weights))
                    slope = (ends[0] - ends[1]) / 2e-6
                    assert (before[where] - after[where]) / 0.1 == pytest.approx(slope, abs=2e-4)


def logged(model, loss=LOSS):
    model.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=True)
    return [float(model.train_on_batch(X, Y)) for _ in range(3)]


def test_without_dropout_it_is_plain_training():
    expected = logged(network(0.0))
    assert logged(kr.models.RDrop(network(0.0), 5.0)) == pytest.approx(expected, rel=1e-6)


def test_probabilities_and_logits_agree():
    a = logged(kr.models.RDrop(network()))
    b = logged(kr.models.RDrop(network(last="softmax")), "sparse_categorical_crossentropy")
    assert a == pytest.approx(b, rel=1e-3)


def test_a_wrapper_inside_and_one_outside():
    expected = logged(kr.models.RDrop(network(), 0.7))
    assert logged(kr.models.SAM(kr.models.RDrop(network(), 0.7), 0.0)) == pytest.approx(expected)
    inner = kr.models.RDrop(kr.models.Flooding(network(), 0.0), 0.7)
    assert logged(inner) == pytest.approx(expected, rel=1e-6)


def test_batch_statistics_move_once():
    def normalized():
        keras.utils.set_random_seed(1)
        parts = [layers.BatchNormalization(), layers.Dropout(0.5, seed=1), layers.Dense(3)]
        return keras.Sequential([keras.Input((4,)), *parts])

    plain, net = normalized(), normalized()
    plain.compile(keras.optimizers.SGD(0.0), LOSS)
    model = kr.models.RDrop(net)
    model.compile(keras.optimizers.SGD(0.0), LOSS)
    for each in (plain, model):
        each.train_on_batch(X, Y)
    np.testing.assert_allclose(
        net.layers[0].moving_mean.numpy(), plain.layers[0].moving_mean.numpy(), rtol=1e-5
    )


def test_padding_changes_nothing():
    words = RNG.randint(1, 9, (6, 4))
    words[3:, 2:] = 0
    tags = RNG.randint(0, 3, (6, 4))

    class Alternate(layers.Layer):
        """As dropout, with masks that do not depend on the length."""

        def __init__(self):
            super().__init__()
            self.supports_masking = True
            self.seed = keras.random.SeedGenerator(1)

        def call(self, x, training=False):
            scale = keras.random.uniform((4,), seed=self.seed)
            return x * scale if training else x

    found = []
    for length in (4, 7):
        keras.utils.set_random_seed(1)
        start = keras.initializers.RandomNormal(stddev=2.0)
        parts = [
            layers.Embedding(9, 4, start, mask_zero=True),
            Alternate(),
            layers.Dense(3, kernel_initializer=start),
        ]
        model = kr.models.RDrop(keras.Sequential([keras.Input((None,), dtype="int32"), *parts]))
        model.compile(keras.optimizers.SGD(0.1), LOSS, run_eagerly=True)
        longer = ((0, 0), (0, length - 4))
        found.append(float(model.train_on_batch(np.pad(words, longer), np.pad(tags, longer))))
    assert found[1] == pytest.approx(found[0], rel=1e-5)


@pytest.mark.parametrize("alpha", [-0.1, "1", None])
def test_alpha_out_of_range(alpha):
    with pytest.raises(ValueError, match="`alpha`"):
        kr.models.RDrop(network(), alpha)


@pytest.mark.rotating
def test_the_networks_that_dropout_draws_agree_more():
    x, y = load_digits(return_X_y=True)
    x, y = x[:600].astype("float32") / 16, y[:600]

    def trained(wrap):
        keras.utils.set_random_seed(0)
        net = keras.Sequential(
            [
                keras.Input((64,)),
                layers.Dense(64, "relu"),
                layers.Dropout(0.5, seed=1),
                layers.Dense(10),
            ]
        )
        model = wrap(net)
        model.compile(keras.optimizers.Adam(3e-3), LOSS)
        model.fit(x[:200], y[:200], batch_size=50, epochs=25, verbose=0)
        right = np.mean(net.predict(x[200:], verbose=0).argmax(-1) == y[200:])
        log_p, log_q = (
            log_softmax(np.float64(ops.convert_to_numpy(net(x[200:], training=True))))
            for _ in range(2)
        )
        return right, np.mean(np.sum((np.exp(log_p) - np.exp(log_q)) * (log_p - log_q), axis=-1))

    plain, apart = trained(kr.models.RegularizedModel)
    right, close = trained(lambda net: kr.models.RDrop(net, 2.0))
    assert close < 0.6 * apart
    assert right > plain - 0.05
