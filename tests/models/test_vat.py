import functools

import keras
import numpy as np
import pytest
from keras import layers, ops
from sklearn.datasets import make_moons

import keras_regularize as kr
from tests.models import small
from tests.models.small import LOSS

RNG = np.random.RandomState(0)
X, Y = RNG.rand(16, 4).astype("float32"), RNG.randint(0, 3, 16)
network = functools.partial(small.network, penalty=None)


def first_loss(model, loss=LOSS, x=X, y=Y):
    # Eagerly: XLA draws other random numbers from the same seed.
    model.compile(keras.optimizers.SGD(0.0), loss, run_eagerly=True)
    return model.fit(x, y, batch_size=16, shuffle=False, verbose=0).history["loss"][0]


def log_softmax(z):
    z = z.astype("float64")
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def test_objective_is_the_loss_plus_divergence_plus_entropy():
    net = network()
    model = kr.models.VAT(net, epsilon=0.7, factor=2.0, entropy_factor=0.5, seed=3)
    logged = first_loss(model)
    # The same first direction, drawn by an attack with the same seed.
    perturbation = kr.attacks.VirtualAdversarial(0.7, seed=3)(net, X)
    log_p = log_softmax(ops.convert_to_numpy(net(X)))
    log_q = log_softmax(ops.convert_to_numpy(net(X + ops.convert_to_numpy(perturbation))))
    divergence = (np.exp(log_p) * (log_p - log_q)).sum(-1).mean()
    entropy = -(np.exp(log_p) * log_p).sum(-1).mean()
    cross_entropy = -log_p[np.arange(16), Y].mean()
    np.testing.assert_allclose(logged, cross_entropy + 2.0 * divergence + 0.5 * entropy, rtol=1e-4)
    np.testing.assert_allclose(
        ops.convert_to_numpy(model.regularization_loss(X, perturbation)),
        2.0 * divergence + 0.5 * entropy,
        rtol=1e-4,
    )
    assert divergence > 1e-4


def test_a_schedule_has_no_value_outside_of_a_step():
    schedule = keras.optimizers.schedules.ExponentialDecay(1.0, 10, 0.5)
    for name in ("factor", "entropy_factor"):
        model = kr.models.VAT(network(), **{name: schedule})
        with pytest.raises(ValueError, match=f"`{name}` must be a number"):
            model.regularization_loss(X, X)


def test_epsilon_zero_is_plain_training():
    assert first_loss(kr.models.VAT(network(), epsilon=0.0)) == pytest.approx(
        first_loss(network()), rel=1e-6
    )


def test_probabilities_and_logits_agree():
    logits = network()
    probabilities = keras.Sequential([logits, layers.Softmax()])
    a = first_loss(kr.models.VAT(logits, epsilon=0.5, seed=1))
    b = first_loss(
        kr.models.VAT(probabilities, epsilon=0.5, seed=1), "sparse_categorical_crossentropy"
    )
    assert a == pytest.approx(b, rel=1e-3)


def test_binary_models_with_one_column():
    keras.utils.set_random_seed(1)
    net = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    plain = first_loss(keras.models.clone_model(net), loss, y=Y % 2)
    model = kr.models.VAT(net, epsilon=1.0)
    model.compile("sgd", loss)
    history = model.fit(X, np.where(Y > 0, Y % 2, -1), epochs=3, verbose=0).history["loss"]
    assert np.isfinite([plain, *history]).all()


def test_several_outputs_are_refused():
    inputs = keras.Input((4,))
    net = keras.Model(inputs, [layers.Dense(3)(inputs), layers.Dense(1)(inputs)])
    model = kr.models.VAT(net)
    model.compile("sgd", [LOSS, "mse"])
    with pytest.raises(ValueError, match="one output"):
        model.fit(X, [Y, X[:, :1]], verbose=0)


@pytest.mark.parametrize("kind", ["functional", "subclassed"])
def test_tokens_through_a_layer(kind):
    keras.utils.set_random_seed(1)
    tokens = RNG.randint(1, 9, (16, 5))

    class Reader(keras.Model):
        def __init__(self):
            super().__init__()
            self.words = layers.Embedding(9, 4, mask_zero=True, name="words")
            self.read, self.head = layers.GRU(4), layers.Dense(3)

        def call(self, x):
            return self.head(self.read(self.words(x)))

    net = Reader()
    if kind == "functional":
        inputs = keras.Input((5,), dtype="int32")
        net = keras.Model(inputs, net.head(net.read(net.words(inputs))))
    model = kr.models.VAT(net, epsilon=1.0, layer="words")
    model.compile(keras.optimizers.Adam(0.05), LOSS)
    before = net.get_weights()
    history = model.fit(tokens, Y, epochs=8, verbose=0).history["loss"]
    assert history[-1] < history[0]
    # The embedding is trained through the perturbed pass as well, and `call` is the layer's own again.
    if before:
        assert np.abs(net.get_weights()[0] - before[0]).max() > 1e-4
    words = net.get_layer("words")
    assert "call" not in vars(words)


def test_text_rows_without_label():
    tokens = RNG.randint(1, 9, (16, 5))
    net = keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(9, 4),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    model = kr.models.VAT(net, epsilon=1.0, layer=net.layers[0], entropy_factor=0.1)
    model.compile("adam", LOSS, metrics=["accuracy"])
    assert np.isfinite(model.fit(tokens, np.where(Y > 0, Y, -1), verbose=0).history["loss"]).all()


def test_padding_of_a_text_does_not_count():
    # Texts of three words, padded to five and to nine: a masked position takes no part in the direction.
    keras.utils.set_random_seed(1)
    words = layers.Embedding(9, 4, mask_zero=True, name="words")
    net = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            words,
            layers.GlobalAveragePooling1D(),
            layers.Dense(3),
        ]
    )
    tokens = RNG.randint(1, 9, (16, 3))
    short, long = (np.pad(tokens, ((0, 0), (0, n))) for n in (2, 6))
    start = RNG.normal(size=(16, 9, 4)).astype("float32")
    attack = kr.attacks.VirtualAdversarial(1.0, 0.1, iterations=2, layer="words")
    (few,) = attack(net, short, initial_direction=[start[:, :5]])
    (many,) = attack(net, long, initial_direction=[start])
    few, many = ops.convert_to_numpy(few), ops.convert_to_numpy(many)
    np.testing.assert_array_equal(few[:, 3:], 0.0)
    np.testing.assert_array_equal(many[:, 3:], 0.0)
    # A finite difference over 0.1 has some four digits left.
    np.testing.assert_allclose(many[:, :3], few[:, :3], atol=2e-3)
    model = kr.models.VAT(net, epsilon=1.0, layer="words")
    model.compile("sgd", LOSS)
    np.testing.assert_allclose(
        ops.convert_to_numpy(model.regularization_loss(short, [few])),
        ops.convert_to_numpy(
            model.regularization_loss(long, [np.pad(few, ((0, 0), (0, 4), (0, 0)))])
        ),
        rtol=1e-4,
    )


@pytest.mark.rotating
def test_unlabelled_points_move_the_boundary_between_two_moons():
    x, truth = make_moons(1000, noise=0.1, random_state=0)
    x = x.astype("float32")
    known = np.concatenate([np.flatnonzero(truth == c)[:4] for c in (0, 1)])
    y = np.full(1000, -1)
    y[known] = truth[known]

    def accuracy(wrap):
        keras.utils.set_random_seed(1)
        hidden = [layers.Dense(32, "relu") for _ in range(2)]
        model = wrap(keras.Sequential([keras.Input((2,)), *hidden, layers.Dense(2)]))
        model.compile(keras.optimizers.Adam(0.01), LOSS)
        model.fit(x, y, batch_size=1000, epochs=200, verbose=0)
        return np.mean(np.argmax(model.predict(x, batch_size=1000, verbose=0), -1) == truth)

    supervised = accuracy(lambda m: kr.models.VAT(m, epsilon=0.0, factor=0.0, seed=0))
    helped = accuracy(lambda m: kr.models.VAT(m, epsilon=0.3, factor=3.0, seed=0))
    assert helped > supervised + 0.04, (supervised, helped)


def test_the_validation_loss_is_the_mean_over_labelled_rows():
    net = network()
    net.compile("sgd", LOSS)
    x, y = RNG.rand(20, 4).astype("float32"), RNG.randint(0, 3, 20)
    labels = np.full(20, -1)
    labels[[0, 1, 2, 9]] = y[[0, 1, 2, 9]]  # 3, 1, 0 and 0 in batches of 5.
    chosen = labels >= 0
    expected = net.evaluate(x[chosen], y[chosen], verbose=0)
    metrics = ["accuracy"]
    for wrap in (lambda m: m, kr.models.SAM):
        model = wrap(kr.models.VAT(net, 0.5))
        model.compile("sgd", LOSS, metrics=metrics)
        found = model.evaluate(x, labels, batch_size=5, verbose=0, return_dict=True)
        assert found["loss"] == pytest.approx(expected, rel=1e-5)
        assert model.evaluate(x[chosen], y[chosen], verbose=0)[0] == pytest.approx(
            expected, rel=1e-5
        )
    attacked = kr.models.VAT(net, 0.5, evaluate_attack=kr.attacks.FGSM(0.1))
    attacked.compile("sgd", LOSS)
    found = attacked.evaluate(x, labels, batch_size=5, verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(expected, rel=1e-5)
