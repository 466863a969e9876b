"""models.EnsLoss: the gradient of a random loss, the value of the compiled one."""

import keras
import numpy as np
import pytest
from counting import count, counting_model
from keras import layers, ops
from sklearn.datasets import load_digits

import keras_regularize as kr

RNG = np.random.RandomState(0)
X, Y = RNG.rand(12, 4).astype("float32"), RNG.randint(0, 2, 12)
W = np.linspace(0.5, 1.5, 12).astype("float32")
LOSS = keras.losses.BinaryCrossentropy(from_logits=True)
CLASSES = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
EAGERLY = {
    "run_eagerly": keras.backend.backend() != "jax"
}  # TensorFlow draws other numbers compiled.


def network(activation=None):
    keras.utils.set_random_seed(1)
    dense = layers.Dense(1, activation, kernel_regularizer=keras.regularizers.L2(0.1))
    return keras.Sequential([keras.Input((4,)), dense])


def compiled(model, loss=LOSS):
    model.compile(keras.optimizers.SGD(0.5), loss, **EAGERLY)
    return model


@pytest.mark.parametrize(
    "activation, random, y", [(None, False, Y), ("sigmoid", True, Y[:, None].astype("float32"))]
)
def test_a_step_is_that_of_the_drawn_slopes(activation, random, y):
    net = network(activation)
    model = kr.models.EnsLoss(net, box_cox=0.3, random_box_cox=random, seed=4)
    compiled(model, keras.losses.BinaryCrossentropy(from_logits=activation is None))
    draws = keras.random.SeedGenerator(4)
    for _ in range(2):
        kernel, bias = (w.astype("float64") for w in net.get_weights())
        s = (2.0 * Y - 1) * (X @ kernel + bias)[:, 0]
        noise = keras.random.normal((12,), seed=draws)
        power = keras.random.uniform((), -1.0, 1.0, seed=draws) if random else 0.3
        d = ops.convert_to_numpy(
            kr.losses.calibrated_derivatives(s.astype("float32"), noise, power)
        )
        slope = W * d * (2.0 * Y - 1) / 12
        penalty = 0.1 * np.sum(kernel**2)
        model.reset_metrics()
        logged = float(model.train_on_batch(X, y, sample_weight=W))
        # What is logged is the loss that was compiled.
        assert logged == pytest.approx(np.mean(W * np.log1p(np.exp(-s))) + penalty, rel=1e-4)
        after = net.get_weights()
        gradient = X.T @ slope[:, None] + 0.2 * kernel
        np.testing.assert_allclose(after[0], kernel - 0.5 * gradient, atol=1e-5)
        np.testing.assert_allclose(after[1], bias - 0.5 * slope.sum(), atol=1e-5)


def test_under_a_rule_all_queries_meet_the_same_loss_and_evaluate_the_compiled_one():
    net, counter = counting_model(classes=1)
    inner = kr.models.EnsLoss(net, seed=4)
    model = compiled(kr.models.SAM(inner, rho=0.1))
    seeds = []
    assert tuple(count(counter, lambda: model.train_on_batch(X, Y))) == (2, 2, 2)
    seeds.append(inner.seed_generator.state.numpy().tolist())
    once = kr.models.EnsLoss(network(), seed=4)
    compiled(once).train_on_batch(X, Y)
    assert once.seed_generator.state.numpy().tolist() == seeds[0]
    once.compile("sgd")  # Without a loss: cross-entropy of scores.
    assert once.evaluate(X, Y, verbose=0) == pytest.approx(
        compiled(network_like(once)).evaluate(X, Y, verbose=0), rel=1e-5
    )


def network_like(model):
    net = network()
    net.set_weights(model.model.get_weights())
    return net


def test_unlabelled_rows_do_not_count():
    def after(y, weights):
        model = kr.models.VAT(kr.models.EnsLoss(network(), seed=4), factor=0.0, seed=1)
        compiled(model).train_on_batch(X, y, sample_weight=weights)
        return model.model.model.get_weights()

    known = np.arange(12) % 3 > 0
    a = after(np.where(known, Y, -1), None)
    # Without a label the class is taken to be 0, which has a place in the order.
    b = after(np.where(known, Y, 0), np.where(known, 1.5, 0.0).astype("float32"))
    for left, right in zip(a, b):
        np.testing.assert_allclose(left, right, atol=1e-6)


@pytest.mark.parametrize(
    "run, message",
    [
        (lambda: kr.models.EnsLoss(network(), box_cox="a"), "`box_cox` must be a number"),
        (lambda: kr.models.EnsLoss(network(), seed=0.5), "`seed` must be an integer"),
        (lambda: compiled(kr.models.EnsLoss(network())).fit(X), "`EnsLoss` needs labels `y`"),
        (
            lambda: compiled(kr.models.EnsLoss(counting_model()[0]), CLASSES).train_on_batch(X, Y),
            r"two classes, \(batch, 1\) or \(batch, 2\). Received outputs of shape",
        ),
    ],
)
def test_bad_arguments(run, message):
    with pytest.raises(ValueError, match=message):
        run()


def test_generalizes_at_least_as_well_as_cross_entropy():
    x, y = load_digits(return_X_y=True)
    chosen = (y == 3) | (y == 8)
    rng = np.random.default_rng(0)
    x = (x[chosen] / 16 + rng.normal(0, 0.5, x[chosen].shape)).astype("float32")
    y = (y[chosen] == 8).astype("int32")
    accuracy = []
    for wrap in (kr.models.RegularizedModel, lambda net: kr.models.EnsLoss(net, seed=0)):
        keras.utils.set_random_seed(0)
        net = keras.Sequential([keras.Input((64,)), layers.Dense(64, "relu"), layers.Dense(1)])
        model = wrap(net)
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), LOSS)
        model.fit(x[:120], y[:120], batch_size=40, epochs=40, verbose=0)
        predicted = net.predict(x[120:], batch_size=400, verbose=0)[:, 0] > 0
        accuracy.append(np.mean(predicted == y[120:]))
    assert accuracy[1] > 0.8 and accuracy[1] >= accuracy[0] - 0.02, accuracy
