"""Padding changes nothing: the added terms of the models run over the positions that a mask leaves."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_regularize as kr

RNG = np.random.RandomState(0)
LENGTHS = (5, 3, 4, 2, 5, 1)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
TAGS = [RNG.randint(0, 3, n) for n in LENGTHS]
WORDS = [RNG.randint(1, 9, n) for n in LENGTHS]


def padded(rows, length, value=0):
    return np.stack([np.pad(row, (0, length - len(row)), constant_values=value) for row in rows])


def reader(seed, pooled):
    """A small recurrent network of word ids, 0 for padding; it tags every word, or the sentence."""
    keras.utils.set_random_seed(seed)
    words = keras.Input((None,), dtype="int32")
    hidden = layers.Embedding(9, 4, mask_zero=True, name="words")(words)
    hidden = layers.GRU(4, return_sequences=not pooled)(hidden)
    start = keras.initializers.RandomNormal(stddev=2.0)
    return keras.Model(words, layers.Dense(3, kernel_initializer=start)(hidden))


def attack(**arguments):
    return kr.attacks.FGSM(0.5, layer="words", bounds=None, **arguments)


MODELS = {
    "plain": lambda net, _: kr.models.RegularizedModel(net),
    "TRADES": lambda net, _: kr.models.TRADES(net, attack(), 3.0),
    "MART": lambda net, _: kr.models.MART(net, attack(), 3.0),
    "ALP": lambda net, _: kr.models.ALP(net, attack(), 0.5),
    "ARoW": lambda net, _: kr.models.ARoW(net, attack(), 3.0),
    "AdvCompSum": lambda net, _: kr.models.AdvCompSum(net, attack()),
    "SRSTAWR": lambda net, teacher: kr.models.SRSTAWR(net, teacher, attack()),
    "Distillation": lambda net, teacher: kr.models.Distillation(net, teacher, 0.3),
    "Distillation dkd": lambda net, teacher: kr.models.Distillation(net, teacher, 0.3, loss="dkd"),
    "Distillation mse": lambda net, teacher: kr.models.Distillation(net, teacher, 0.3, loss="mse"),
}


def step(wrap, length, pooled, weights=None, unlabelled=()):
    """The loss and the gradients of one step."""
    net = reader(1, pooled)
    model = wrap(net, reader(2, pooled))
    # JAX compiles a step of a recurrent network faster than it runs one operation by operation.
    eagerly = keras.backend.backend() != "jax"
    model.compile(keras.optimizers.SGD(1.0), LOSS, run_eagerly=eagerly)
    y = np.array([row[0] for row in TAGS]) if pooled else padded(TAGS, length)
    y[list(unlabelled)] = -1
    if weights is not None and not pooled:
        weights = np.repeat(weights[:, None], length, axis=1)
    before = net.get_weights()
    loss = model.train_on_batch(padded(WORDS, length), y, sample_weight=weights)
    return float(loss), [a - b for a, b in zip(before, net.get_weights())]


@pytest.mark.parametrize("pooled", [False, True], ids=["tags", "pooled"])
@pytest.mark.parametrize("name", MODELS)
def test_padding_changes_nothing(name, pooled):
    for weights in (None, np.linspace(0.5, 2.0, 6).astype("float32")):
        loss, gradients = step(MODELS[name], 5, pooled, weights)
        longer, others = step(MODELS[name], 9, pooled, weights)
        assert longer == pytest.approx(loss, rel=1e-5)
        for a, b in zip(gradients, others):
            np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-6)


def test_unlabelled_rows_and_padding():
    loss, gradients = step(MODELS["SRSTAWR"], 5, False, unlabelled=(1, 4))
    longer, others = step(MODELS["SRSTAWR"], 9, False, unlabelled=(1, 4))
    assert longer == pytest.approx(loss, rel=1e-5)
    for a, b in zip(gradients, others):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-6)


def test_the_divergence_is_the_mean_over_words():
    net, teacher = reader(1, False), reader(2, False)
    x = padded(WORDS, 9)
    z, v = (np.asarray(m.predict(x, verbose=0), "float64") for m in (net, teacher))
    z, v = (u - np.log(np.exp(u).sum(-1, keepdims=True)) for u in (z / 3, v / 3))
    divergence = 9 * (np.exp(v) * (v - z)).sum(-1)
    model = kr.models.Distillation(net, teacher, 0.0)
    model.compile(keras.optimizers.SGD(0.0), LOSS)
    logged = float(model.train_on_batch(x, padded(TAGS, 9)))
    assert logged == pytest.approx(divergence[x > 0].mean(), rel=1e-4)


@pytest.mark.parametrize("entropy", [0.0, 0.5])
def test_the_terms_of_vat_leave_padding_out(entropy):
    net = reader(1, False)
    model = kr.models.VAT(net, 1.0, factor=2.0, entropy_factor=entropy, layer="words")
    model.compile("sgd", LOSS)
    move = RNG.normal(size=(6, 5, 4)).astype("float32")
    values = []
    for length in (5, 9):
        longer = np.pad(move, ((0, 0), (0, length - 5), (0, 0)))
        found = model.regularization_loss(padded(WORDS, length), [longer])
        values.append(float(keras.ops.convert_to_numpy(found)))
    assert values[1] == pytest.approx(values[0], rel=1e-5)
    assert values[0] > 1e-3


def test_weights_of_words_are_left_as_they_are():
    # On torch Keras multiplies them by the mask in place: a second query would see the product.
    x, y = padded(WORDS, 7), padded(TAGS, 7)
    weights = np.linspace(0.5, 2.0, 42).reshape(6, 7).astype("float32")
    net = reader(1, False)
    model = kr.models.SAM(net, 0.0)
    model.compile(keras.optimizers.SGD(1.0), LOSS, run_eagerly=True)
    plain = reader(1, False)
    plain.compile(keras.optimizers.SGD(1.0), LOSS, run_eagerly=True)
    given = keras.ops.convert_to_tensor(weights)
    for each in (model, plain):
        each.train_on_batch(x, y, sample_weight=weights)
    for a, b in zip(net.get_weights(), plain.get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(given), weights)
