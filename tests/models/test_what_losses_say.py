"""Models under losses that do not say whether they take logits, and with several outputs or labels."""

import functools

import keras
import numpy as np
import pytest
from keras import layers, losses, ops

import keras_regularize as kr
from keras_regularize import models

RNG = np.random.RandomState(0)
X, Y = RNG.rand(12, 4).astype("float32"), RNG.randint(0, 3, 12)
CE = losses.SparseCategoricalCrossentropy(from_logits=True)


def on_logits(y_true, y_pred):
    return losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)


class Own(losses.Loss):
    def call(self, y_true, y_pred):
        return on_logits(y_true, y_pred)


def network(outputs=3, last=None, seed=1):
    keras.utils.set_random_seed(seed)
    start = keras.initializers.RandomNormal(stddev=2.0)
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(5, "tanh"),
            layers.Dense(outputs, last, kernel_initializer=start),
        ]
    )


def pgd(loss="cross_entropy"):
    return kr.attacks.PGD(0.1, 0.05, 2, loss=loss, random_start=False)


def teacher():
    return network(seed=2)


MODELS = {
    "TRADES": lambda **told: models.TRADES(network(), pgd("kl"), **told),
    "MART": lambda **told: models.MART(network(), pgd(), **told),
    "ALP": lambda **told: models.ALP(network(), pgd(), **told),
    "ARoW": lambda **told: models.ARoW(network(), pgd("kl"), **told),
    "AdvCompSum": lambda **told: models.AdvCompSum(network(), pgd(), **told),
    "SRSTAWR": lambda **told: models.SRSTAWR(network(), teacher(), pgd(), **told),
    "AdversarialTraining": lambda **told: models.AdversarialTraining(network(), pgd(), **told),
    "GradAlign": lambda **told: models.GradAlign(network(), kr.attacks.FGSM(0.1), seed=1, **told),
    "ELLE": lambda **told: models.ELLE(network(), 0.1, seed=1, **told),
    "VAT": lambda **told: models.VAT(network(), 0.5, seed=1, **told),
    "RobustSelfSupervised": lambda **told: models.RobustSelfSupervised(
        network(), gamma=5.0, gamma_unlabeled=5.0, steps=2, **told
    ),
    "Distillation": lambda **told: models.Distillation(network(), teacher(), **told),
    "FunctionalEntropy": lambda **told: models.FunctionalEntropyRegularization(
        network(), 1e-3, seed=1, **told
    ),
    "ELR": lambda **told: models.ELR(network(), 12, 3, **told),
    "ELRPlus": lambda **told: models.ELRPlus(network(), teacher(), 12, 3, seed=1, **told),
    "ElasticQuantization": lambda **told: models.ElasticQuantization(
        network(), (2, 8), 2, seed=1, **told
    ),
    "SAM of VAT": lambda **told: models.SAM(models.VAT(network(), 0.5, seed=1, **told), 0.0),
}


def logged(name, loss, **told):
    model = MODELS[name](**told)
    model.compile(keras.optimizers.SGD(0.01), loss, run_eagerly=True)
    y = kr.utils.with_index(Y) if name.startswith("ELR") else Y
    return float(model.train_on_batch(X, y))


@pytest.mark.parametrize("name", MODELS)
def test_a_function_or_an_own_loss_needs_to_be_told(name):
    expected = logged(name, CE)
    for loss in (on_logits, Own(), functools.partial(on_logits)):
        with pytest.raises(ValueError, match="does not say so.*`from_logits=True`"):
            logged(name, loss)
        assert logged(name, loss, from_logits=True) == pytest.approx(expected, rel=1e-4)
    known = functools.partial(losses.sparse_categorical_crossentropy, from_logits=True)
    assert logged(name, known) == pytest.approx(expected, rel=1e-4)
    assert MODELS[name](from_logits=True).get_config() != MODELS[name]().get_config()


def test_the_binary_classifier_of_ens_loss():
    def binary(y_true, y_pred):
        return losses.binary_crossentropy(y_true, y_pred, from_logits=True)

    found = []
    for told in ({"loss": losses.BinaryCrossentropy(from_logits=True)}, {"loss": binary}):
        for from_logits in (None, True):
            model = models.EnsLoss(network(1), seed=1, from_logits=from_logits)
            model.compile(keras.optimizers.SGD(0.1), **told, run_eagerly=True)
            if told["loss"] is binary and from_logits is None:
                with pytest.raises(ValueError, match="`from_logits=True`"):
                    model.fit(X, Y % 2, verbose=0)
                continue
            model.train_on_batch(X, (Y % 2)[:, None])
            found.append(model.get_weights())
    for a, b, c in zip(*found):
        np.testing.assert_allclose(a, b)
        np.testing.assert_allclose(a, c, rtol=1e-5, atol=1e-7)


def test_the_error_comes_before_tracing():
    model = models.TRADES(network(), pgd("kl"))
    model.compile("adam", on_logits)
    before = model.get_weights()

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return X, Y

    for data in ((X, Y), (Batches(),)):
        with pytest.raises(ValueError, match="`from_logits=True`"):
            model.fit(*data, verbose=0)
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_a_regression_has_no_class_probabilities():
    for model in (models.VAT(network(1)), models.TRADES(network(1), pgd("kl"))):
        model.compile("sgd", "mse")
        with pytest.raises(ValueError, match="'mse'.*`from_logits=True`"):
            model.fit(X, X[:, :1], verbose=0)
    model = models.AdversarialTraining(network(1), pgd())
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match='loss="compiled"'):
        model.fit(X, X[:, :1], verbose=0)


@pytest.mark.parametrize("loss", ["categorical_hinge", "mse", on_logits])
def test_robust_accuracy_is_that_of_the_largest_output(loss):
    model = network()
    model.compile("sgd", loss)
    right = np.argmax(model.predict(X, verbose=0), axis=-1) == Y
    y = Y if loss is on_logits else np.eye(3, dtype="float32")[Y]
    attack = kr.attacks.PGD(0.0, 0.1, 1, loss="compiled")
    assert kr.analysis.robust_accuracy(model, X, y, attack) == pytest.approx(right.mean())
    with pytest.raises(ValueError, match='`from_logits=True`.*`loss="compiled"`|loss="compiled"'):
        kr.analysis.robust_accuracy(model, X, y, kr.attacks.PGD(0.1, 0.1, 1))


def test_labels_of_their_own_are_attacked_one_by_one():
    y = RNG.randint(0, 2, (12, 3)).astype("float32")
    move = []
    for last in (None, "sigmoid"):
        model = network(3, last)
        model.compile("sgd", losses.BinaryCrossentropy(from_logits=last is None))
        for loss in ("cross_entropy", "compiled"):
            found = kr.attacks.PGD(0.1, 0.03, 5, "l2", loss, random_start=False)(model, X, y)
            move.append(ops.convert_to_numpy(found) - X)
    for other in move[1:]:
        np.testing.assert_allclose(other, move[0], atol=2e-4)
    # TRADES' divergence is that of independent labels.
    net = network()
    attack = kr.attacks.PGD(0.1, 0.1, 1, "linf", "compiled", random_start=False, bounds=None)
    model = models.TRADES(net, attack, beta=2.0)
    model.compile(keras.optimizers.SGD(0.0), losses.BinaryCrossentropy(from_logits=True))
    moved = attack(model, X, y)
    p, q = (1 / (1 + np.exp(-np.float64(ops.convert_to_numpy(net(x))))) for x in (X, moved))
    kl = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    clean = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    assert float(model.train_on_batch(X, y)) == pytest.approx(clean + 2 * kl.mean(), rel=1e-4)


def with_features(last=None):
    """Scores, and the features beside them."""
    net = network(3, last)
    return keras.Model(net.inputs[0], [net.outputs[0], net.layers[0].output])


@pytest.mark.parametrize("name", ["TRADES", "VAT", "MART", "Distillation", "Distillation mse"])
def test_of_several_outputs_that_with_a_loss_counts(name):
    make = {
        "TRADES": lambda net: models.TRADES(net, pgd("kl")),
        "VAT": lambda net: models.VAT(net, 0.5, seed=1),
        "MART": lambda net: models.MART(net, pgd()),
        "Distillation": lambda net: models.Distillation(net, with_features()),
        "Distillation mse": lambda net: models.Distillation(net, with_features(), loss="mse"),
    }[name]

    def value(net, loss, y):
        model = make(net)
        model.compile(keras.optimizers.SGD(0.0), loss, run_eagerly=True)
        return float(model.train_on_batch(X, y))

    if name.startswith("Distillation"):
        single = models.Distillation(network(), network(), loss=name[13:] or "kl")
        single.compile(keras.optimizers.SGD(0.0), CE, run_eagerly=True)
        expected = float(single.train_on_batch(X, Y))
    else:
        expected = value(network(), CE, Y)
    assert value(with_features(), [CE, None], [Y, np.zeros(12)]) == pytest.approx(
        expected, rel=1e-5
    )


def test_a_dictionary_of_one_output():
    net = network()
    named = keras.Model(net.inputs[0], {"scores": net.outputs[0]})
    model = models.VAT(named, 0.5, seed=1)
    model.compile(keras.optimizers.SGD(0.0), {"scores": CE}, run_eagerly=True)
    plain = models.VAT(network(), 0.5, seed=1)
    plain.compile(keras.optimizers.SGD(0.0), CE, run_eagerly=True)
    expected = float(plain.train_on_batch(X, Y))
    assert float(model.train_on_batch(X, {"scores": Y})) == pytest.approx(expected, rel=1e-5)


def test_several_classifiers_are_distilled_each_from_its_own():
    def two(seed):
        nets = [network(3, seed=seed), network(3, "softmax", seed=seed + 5)]
        x = keras.Input((4,))
        return keras.Model(x, {"a": nets[0](x), "b": nets[1](x)}), nets

    (student, mine), (teacher, theirs) = two(1), two(20)
    loss = {"a": CE, "b": "sparse_categorical_crossentropy"}
    model = models.Distillation(student, teacher, 0.3)
    teacher.compile(loss=loss)
    model.compile(keras.optimizers.SGD(0.0), loss, run_eagerly=True)
    found = float(model.train_on_batch(X, {"a": Y, "b": Y})[0])
    expected = 0.0
    for each, other, name in zip(mine, theirs, loss):
        other.compile(loss=loss[name])
        single = models.Distillation(each, other, 0.3)
        single.compile(keras.optimizers.SGD(0.0), loss[name], run_eagerly=True)
        expected += float(single.train_on_batch(X, Y))
    assert found == pytest.approx(expected, rel=1e-5)
