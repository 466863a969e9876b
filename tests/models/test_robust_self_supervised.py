"""Robust self-training: a step against the formula in float64, its limits, and how it nests."""

import functools

import keras
import numpy as np
import pytest
from counting import count, counting_model
from keras import layers

import keras_regularize as kr
from tests.models import small
from tests.models.small import LOSS

RNG = np.random.RandomState(0)
X = RNG.rand(12, 4).astype("float32")
Y = RNG.randint(0, 3, 12)
Y[[1, 4, 5, 6, 9, 10, 11]] = -1
Robust = kr.models.RobustSelfSupervised
network = functools.partial(small.network, penalty=None)


def trained(model, y=Y, loss=LOSS, x=X, steps=1, **arguments):
    """The logged losses, and the weights afterwards."""
    model.compile(keras.optimizers.SGD(0.5), loss)
    losses = [float(model.train_on_batch(x, y, **arguments)) for _ in range(steps)]
    return losses, model.get_weights()


def assert_same(a, b, **tolerances):
    for left, right in zip(a, b, strict=True):
        np.testing.assert_allclose(left, right, **{"rtol": 1e-5, "atol": 1e-6, **tolerances})


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("gamma, other", [(0.8, 1.7), (np.inf, 0.5)])
def test_a_step_equals_the_formula(weighted, gamma, other):
    keras.utils.set_random_seed(2)
    net = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    kernel, bias = (w.astype("float64") for w in net.get_weights())
    weight = RNG.uniform(0.5, 2.0, 12) if weighted else np.ones(12)

    total, slopes = 0.0, [0.0, 0.0]
    for i in range(12):
        x, price = X[i].astype("float64"), gamma if Y[i] >= 0 else other
        label = np.eye(3)[Y[i] if Y[i] >= 0 else np.argmax(x @ kernel + bias)]
        z = x
        for _ in range(4 if price < np.inf else 0):
            gradient = kernel @ (softmax(z @ kernel + bias) - label)
            z = z + 0.2 * (gradient - 2 * price * (z - x))
        p = softmax(z @ kernel + bias)
        cost = price * np.sum((z - x) ** 2) if price < np.inf else 0.0
        share = weight[i] * (1 / 5 if Y[i] >= 0 else 1.5 / 7)
        total += share * (-np.log(p @ label) - cost)
        slopes[0] = slopes[0] + share * np.outer(z, p - label)
        slopes[1] = slopes[1] + share * (p - label)

    model = Robust(net, 1.5, gamma, other, steps=4, step_size=0.2)
    arguments = {"sample_weight": weight} if weighted else {}
    losses, weights = trained(model, **arguments)
    assert losses[0] == pytest.approx(total, rel=1e-5)
    assert_same(weights, [kernel - 0.5 * slopes[0], bias - 0.5 * slopes[1]])


def test_without_unlabelled_rows_it_is_training_on_penalized_adversaries():
    y = np.abs(Y)
    attack = kr.attacks.PenalizedAscent(0.6, steps=5)
    _, expected = trained(kr.models.AdversarialTraining(network(), attack), y)
    for factor in (0.0, 3.0):
        assert_same(trained(Robust(network(), factor, gamma=0.6, steps=5), y)[1], expected)


def test_without_labels_or_weight_only_the_other_rows_count():
    labelled = Y >= 0
    losses, weights = trained(Robust(network(), factor=0.0))
    assert_same(weights, trained(Robust(network()), Y[labelled], x=X[labelled])[1])
    # All rows unlabelled: every prediction becomes its own label.
    guesses = predictions(network())
    losses, weights = trained(Robust(network(), factor=2.0), np.full(12, -1))
    expected = trained(Robust(network()), guesses)
    assert losses[0] == pytest.approx(2 * expected[0][0], rel=1e-5)
    before = network().get_weights()
    assert_same(weights, [b + 2 * (e - b) for b, e in zip(before, expected[1])], atol=1e-5)


def predictions(model):
    return np.argmax(keras.ops.convert_to_numpy(model(X)), axis=-1)


def test_the_objective_is_above_the_loss_and_falls_with_the_price():
    values = [trained(Robust(network(), 1.0, g, g))[0][0] for g in (0.5, 1.0, 4.0, np.inf)]
    assert values == sorted(values, reverse=True) and values[0] > values[-1] + 0.01
    plain = trained(Robust(network(), robust=False))[0][0]
    assert plain == pytest.approx(values[-1], rel=1e-6)


@pytest.mark.parametrize("form", ["column", "float", "rows", "binary"])
def test_forms_of_labels(form):
    expected = trained(Robust(network()), steps=2)
    if form == "rows":
        rows = np.where(Y[:, None] < 0, -1.0, np.eye(3)[Y])
        got = trained(Robust(network()), rows, keras.losses.CategoricalCrossentropy(True), steps=2)
    elif form == "binary":
        two = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
        one = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
        kernel = RNG.normal(size=(4, 1))
        two.set_weights([np.concatenate([0 * kernel, kernel], 1), np.zeros(2)])
        one.set_weights([kernel, np.zeros(1)])
        y = np.minimum(Y, 1)
        expected = trained(Robust(two), y)[0], []
        binary = keras.losses.BinaryCrossentropy(from_logits=True)
        got = trained(Robust(one), y[:, None], binary)[0], []
    else:
        y = Y[:, None] if form == "column" else Y.astype("float32")
        got = trained(Robust(network()), y, steps=2)
    assert got[0] == pytest.approx(expected[0], rel=1e-5)
    assert_same(got[1], expected[1])


def test_levels_commute():
    def robust(model):
        return Robust(model, 0.5, 0.8, 1.2, steps=3)

    def sam(model):
        return kr.models.SAM(model, rho=0.1)

    assert_same(
        trained(sam(robust(network())))[1], trained(robust(sam(network())))[1], rtol=0, atol=0
    )


@pytest.mark.parametrize(
    "arguments, nest, expected",
    [
        ({"steps": 3}, lambda m: m, (5, 4, 1)),  # Prediction, ascent, training pass.
        ({"robust": False}, lambda m: m, (2, 1, 1)),
        ({"gamma": np.inf, "gamma_unlabeled": np.inf}, lambda m: m, (2, 1, 1)),
        ({"steps": 3}, kr.models.SAM, (6, 5, 2)),
    ],
)
def test_passes_are_counted(arguments, nest, expected):
    net, counter = counting_model()
    model = nest(Robust(net, **arguments))
    model.compile("sgd", LOSS)
    model.train_on_batch(X, Y)
    assert tuple(count(counter, lambda: model.train_on_batch(X, Y))) == expected


def test_tokens_through_a_layer():
    keras.utils.set_random_seed(1)
    tokens = RNG.randint(1, 9, (12, 5))
    words = layers.Embedding(9, 4, mask_zero=True, name="words")
    net = keras.Sequential(
        [keras.Input((5,), dtype="int32"), words, layers.GlobalAveragePooling1D(), layers.Dense(3)]
    )
    with pytest.raises(ValueError, match="pass `layer=`"):
        trained(Robust(net), x=tokens)
    before = net.get_weights()[0]
    moved = trained(Robust(net, gamma=0.2, gamma_unlabeled=0.2, layer="words"), x=tokens)[0]
    assert np.abs(net.get_weights()[0] - before).max() > 1e-4
    net.set_weights([before, *net.get_weights()[1:]])
    assert np.isfinite(moved).all()


def test_several_predictions_per_sample_are_refused():
    net = keras.Sequential([keras.Input((6, 4)), layers.Dense(3)])
    with pytest.raises(ValueError, match="one prediction per sample"):
        trained(Robust(net), np.zeros((12, 6)), x=np.zeros((12, 6, 4)))
    with pytest.raises(ValueError, match="needs labels `y`"):
        trained(Robust(network()), None)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"factor": -1.0}, "`factor` must be a number at least 0 or a schedule"),
        ({"gamma": 0.0}, "`gamma` must be above 0"),
        ({"gamma_unlabeled": 5.0, "step_size": 0.5}, "at most 1 / gamma_unlabeled"),
        ({"steps": 0.5}, "`steps` must be an integer"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Robust(network(), **arguments)


def test_the_reduction_of_the_loss_does_not_matter():
    found = []
    for reduction in ("sum_over_batch_size", "mean_with_sample_weight"):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)
        keras.utils.set_random_seed(1)
        net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, kernel_regularizer="l2")])
        model = kr.models.RobustSelfSupervised(net, 0.5, robust=False)
        model.compile("sgd", loss)
        x = np.random.RandomState(0).rand(8, 4).astype("float32")
        y = np.array([0, 1, 2, -1, -1, -1, 1, -1])
        found.append(float(model.train_on_batch(x, y)))
    assert found[1] == pytest.approx(found[0], rel=1e-5)
