"""models.ELR: the memory moves before it is used, once a step, and wrong labels are not memorized."""

import keras
import numpy as np
import pytest
from counting import count, counting_model
from keras import layers
from sklearn.datasets import load_digits

import keras_regularize as kr
from tests.models.small import LOSS, network

RNG = np.random.RandomState(0)
X, Y = RNG.rand(16, 4).astype("float32"), RNG.randint(0, 3, 16)
WHOLE = {"batch_size": 16, "shuffle": False, "verbose": 0}
INDEX = np.arange(16)[::-1].copy()


def elr(model, num_samples=20, num_classes=3, **arguments):
    return kr.models.ELR(model, num_samples, num_classes, **arguments)


def compiled(model, rate=0.5, loss=LOSS):
    model.compile(keras.optimizers.SGD(rate), loss)
    return model


def probabilities(net):
    z = np.asarray(net.predict(X, verbose=0), "float64")
    p = np.exp(z - z.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def columns(index=INDEX, y=Y):
    return {"label": y, "index": index}


def logged(model, y):
    return model.fit(X, y, **WHOLE).history["loss"][0]


def test_the_loss_and_the_memory_follow_the_formula():
    net = network()
    model = compiled(elr(net, momentum=0.6, factor=2.0), rate=0.0)
    plain = logged(compiled(network(), rate=0.0), Y)
    p = probabilities(net)
    for rows in (0.4 * p, 0.64 * p):  # The same predictions, averaged once and twice.
        expected = plain + 2.0 * np.log(1 - np.sum(rows * p, axis=-1)).mean()
        assert logged(model, columns()) == pytest.approx(expected, rel=1e-4)
        memory = model.memory.numpy()
        np.testing.assert_allclose(memory[INDEX], rows, atol=1e-5)
        assert (memory[16:] == 0).all()


def test_of_a_repeated_index_the_last_sample_counts_and_unknown_ones_are_left_out():
    index = INDEX.copy()
    index[[2, 7]], index[[5, 9]] = 18, (-1, 20)
    net = network()
    model = compiled(elr(net), rate=0.0)
    y = columns(index)
    model.check_columns = lambda columns: None  # As with a dataset, which is not read.
    loss, p = logged(model, y), probabilities(net)
    known = np.isin(index, np.arange(20))
    terms = np.where(known, np.log(1 - 0.3 * np.sum(p * p, axis=-1)), 0.0)
    plain = logged(compiled(network(), rate=0.0), Y)
    assert loss == pytest.approx(plain + 3.0 * terms.mean(), rel=1e-4)
    expected = np.zeros((20, 3))
    expected[index[known]] = 0.3 * p[known]
    np.testing.assert_allclose(model.memory.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("activation, outputs", [("softmax", 3), ("sigmoid", 1), (None, 1)])
def test_probabilities_and_single_columns_are_understood(activation, outputs):
    logits = activation is None
    if outputs == 1:
        loss = keras.losses.BinaryCrossentropy(from_logits=logits)
        net, y, classes = network(activation, 1), Y % 2, 2
    else:
        loss = keras.losses.SparseCategoricalCrossentropy()
        net, y, classes = network(activation), Y, 3
    model = compiled(elr(net, num_classes=classes), 0.0, loss)
    model.fit(X, columns(y=y), **WHOLE)
    out = np.asarray(net.predict(X, verbose=0), "float64")
    if outputs == 1:
        out = 1 / (1 + np.exp(-out)) if logits else out
        out = np.concatenate([1 - out, out], axis=1)
    np.testing.assert_allclose(model.memory.numpy()[INDEX], 0.3 * out, atol=1e-5)


def test_the_memory_moves_once_under_a_gradient_rule_and_levels_commute():
    def trained(model):
        compiled(model).fit(X, columns(), epochs=2, **WHOLE)
        inner = model if isinstance(model, kr.models.ELR) else model.model
        net = inner.model
        while isinstance(net, kr.models.RegularizedModel):
            net = net.model
        return [*net.get_weights()], model, inner

    a, _, inner = trained(kr.models.SAM(elr(network()), rho=0.3))
    b, outer, _ = trained(elr(kr.models.SAM(network(), rho=0.3)))
    for left, right in zip(a, b, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6)
    np.testing.assert_allclose(inner.memory.numpy(), outer.memory.numpy(), atol=1e-6)
    one = elr(network())
    compiled(one).fit(X, columns(), **WHOLE)
    first = elr(network())
    compiled(kr.models.SAM(first, rho=0.3)).fit(X, columns(), **WHOLE)
    np.testing.assert_allclose(first.memory.numpy(), one.memory.numpy(), atol=1e-6)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda m: kr.models.TRADES(elr(m), kr.attacks.FGSM(0.1)),
        lambda m: elr(kr.models.TRADES(m, kr.attacks.FGSM(0.1))),
        lambda m: elr(kr.models.VAT(m, seed=1)),
    ],
    ids=["trades of elr", "elr of trades", "elr of vat"],
)
def test_the_term_stays_beside_other_objectives(wrap):
    model = compiled(wrap(network()), rate=0.0)
    inner = model if isinstance(model, kr.models.ELR) else model.model
    first, second = logged(model, columns()), logged(model, columns())
    assert second < first - 0.1  # The averages grow.
    np.testing.assert_allclose(inner.memory.numpy()[INDEX], 0.51 * probabilities(inner), atol=1e-4)


def test_the_factor_may_be_scheduled():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [0.0, 2.0])
    model, plain = compiled(elr(network(), factor=schedule), 0.0), compiled(network(), 0.0)
    assert logged(model, columns()) == pytest.approx(logged(plain, Y), rel=1e-5)
    assert logged(model, columns()) < logged(plain, Y) - 0.1


def test_predictions_that_are_not_finite_are_not_remembered():
    model = compiled(elr(network()), rate=0.0)
    model.fit(X, columns(), **WHOLE)
    before = model.memory.numpy()
    x = X.copy()
    x[3] = np.nan
    model.fit(x, columns(), **WHOLE)
    after = model.memory.numpy()
    assert np.isfinite(after).all()
    np.testing.assert_equal(after[INDEX[3]], before[INDEX[3]])
    assert (after[INDEX[4]] != before[INDEX[4]]).all()


def test_a_step_costs_one_pass():
    net, counter = counting_model()
    model = compiled(elr(net))
    model.fit(X, columns(), **WHOLE)  # Tracing done.
    assert tuple(count(counter, lambda: model.fit(X, columns(), **WHOLE))) == (1, 1, 1)


def test_training_goes_on_after_loading(tmp_path):
    model = compiled(kr.models.SAM(elr(network(), factor=2.0), rho=0.1))
    model.fit(X, columns(), **WHOLE)
    model.save(tmp_path / "m.keras")
    restored = keras.models.load_model(tmp_path / "m.keras")
    for m in (model, restored):
        m.fit(X, columns(), **WHOLE)
    for a, b in zip(model.get_weights(), restored.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert model.model.memory.numpy().any()


@pytest.mark.parametrize(
    "y, message",
    [
        (Y, "ELR needs the index of each sample: `y=kr.utils.with_index"),
        ({"label": Y, "group": Y}, r"Received the columns \['group'\]"),
        (columns(INDEX + 5), "from 0 to num_samples - 1 = 19. Received indices from 5 to 20"),
        (columns(INDEX - 1), "Received indices from -1 to 14"),
    ],
)
def test_bad_indices_leave_the_weights(y, message):
    net = network()
    before = net.get_weights()
    model = compiled(kr.models.SAM(elr(net)))
    with pytest.raises(ValueError, match=message):
        model.fit(X, y, verbose=0)
    np.testing.assert_equal(net.get_weights(), before)
    assert np.isfinite(model.evaluate(X, Y, verbose=0))  # Which needs no index.


def test_outputs_of_another_size_are_rejected():
    model = compiled(elr(network(), num_classes=4))
    with pytest.raises(ValueError, match=r"num_classes=4 classes.*Received outputs of shape"):
        model.fit(X, columns(), verbose=0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_samples": 0}, "`num_samples` must be an integer of at least 1"),
        ({"num_classes": 1}, "`num_classes` must be an integer of at least 2"),
        ({"momentum": 1.0}, "`momentum` must be a number at least 0 and below 1"),
        ({"momentum": -0.1}, "`momentum` must be a number at least 0"),
        ({"factor": -1.0}, "`factor` must be .*at least 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        elr(network(), **arguments)


def test_wrong_labels_are_not_memorized():
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    rng = np.random.default_rng(0)
    train, test = slice(0, 600), slice(600, None)
    wrong = rng.random(600) < 0.4
    noisy = np.where(wrong, (y[train] + rng.integers(1, 10, 600)) % 10, y[train])
    accuracy, memorized = [], []
    for factor in (0.0, 3.0):
        keras.utils.set_random_seed(0)
        net = keras.Sequential([keras.Input((64,)), layers.Dense(128, "relu"), layers.Dense(10)])
        model = elr(net, 600, 10, factor=factor)
        model.compile(keras.optimizers.Adam(5e-3), LOSS)
        model.fit(x[train], kr.utils.with_index(noisy), batch_size=100, epochs=40, verbose=0)
        predicted = net.predict(x, batch_size=2000, verbose=0).argmax(-1)
        accuracy.append(np.mean(predicted[test] == y[test]))
        memorized.append(np.mean(predicted[train][wrong] == noisy[wrong]))
    assert accuracy[1] > accuracy[0] + 0.1, accuracy
    assert memorized[1] < 0.4 * memorized[0], memorized
