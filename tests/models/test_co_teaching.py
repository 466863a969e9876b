"""models.CoTeaching: each network steps on the small-loss samples of the other."""

import keras
import numpy as np
import pytest
from counting import count, counting_model
from keras import layers
from sklearn.datasets import load_digits

import keras_regularize as kr

RNG = np.random.RandomState(0)
X, Y = RNG.rand(20, 4).astype("float32"), RNG.randint(0, 3, 20)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
WHOLE = {"batch_size": 20, "shuffle": False, "verbose": 0}


def network(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(5, "tanh", kernel_regularizer="l2"),
            layers.Dense(3, kernel_initializer="random_normal"),
        ]
    )


def compiled(model, rate=0.5, **arguments):
    model.compile(keras.optimizers.SGD(rate), LOSS, **arguments)
    return model


def losses_of(net):
    z = np.asarray(net.predict(X, verbose=0), "float64")
    return np.log(np.exp(z).sum(-1)) - z[np.arange(20), Y]


def assert_close(a, b):
    for left, right in zip(a, b, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6)


def test_a_step_is_that_on_the_samples_the_other_network_chose():
    """Three steps of a schedule, which leave out some, all but one, and none of the samples."""
    nets, alone = [network(1), network(2)], [network(1), network(2)]
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0, 1], [0.31, 0.99, 0.0])
    model = compiled(kr.models.CoTeaching(*nets, schedule))
    plain = [compiled(net) for net in alone]
    for step, kept in enumerate((13, 1, 20)):
        chosen = [np.argsort(np.argsort(losses_of(net))) < kept for net in nets]
        assert step > 0 or (chosen[0] != chosen[1]).any()
        logged = model.fit(X, Y, **WHOLE).history["loss"][0]
        total = 0.0
        for net, by_the_other in zip(plain, reversed(chosen)):
            weights = (by_the_other * 20 / kept).astype("float32")
            total += net.fit(X, Y, sample_weight=weights, **WHOLE).history["loss"][0]
        assert logged == pytest.approx(total, rel=1e-5)
        for net, expected in zip(nets, alone):
            assert_close(net.get_weights(), expected.get_weights())


def test_of_split_batches_each_half_teaches_one_network():
    nets, alone = [network(1), network(2)], [network(1), network(2)]
    for net in (*nets, *alone):  # Scores are those at inference, losses those in training.
        net.add(layers.Dropout(0.5, seed=3))
    halves = [np.arange(20) < 10, np.arange(20) >= 10]
    chosen = []
    for net, half in zip(nets, halves):
        losses = np.where(half, losses_of(net), np.inf)
        chosen.append(np.argsort(np.argsort(losses)) < 7)  # 0.7 · 10
    model = compiled(kr.models.CoTeaching(*nets, 0.3, split=True))
    logged = model.fit(X, Y, **WHOLE).history["loss"][0]
    total = 0.0
    for net, by_the_other in zip(alone, reversed(chosen)):
        weights = (by_the_other * 20 / 7).astype("float32")
        history = compiled(net).fit(X, Y, sample_weight=weights, **WHOLE)
        total += history.history["loss"][0]
    assert logged == pytest.approx(total, rel=1e-5)
    for net, expected in zip(nets, alone):
        assert_close(net.get_weights(), expected.get_weights())
    one = compiled(kr.models.CoTeaching(network(1), network(2), split=True))
    assert np.isfinite(one.train_on_batch(X[:1], Y[:1]))  # One half is empty.


def test_samples_without_weight_or_label_are_neither_ranked_nor_counted():
    used = np.arange(20) % 4 != 0
    expected = kr.models.CoTeaching(network(1), network(2), 0.4)
    first = compiled(expected).fit(X[used], Y[used], **WHOLE).history["loss"]

    model = kr.models.CoTeaching(network(1), network(2), 0.4)
    weights = used.astype("float32")
    second = compiled(model).fit(X, Y, sample_weight=weights, **WHOLE).history["loss"]
    third = kr.models.VAT(kr.models.CoTeaching(network(1), network(2), 0.4), factor=0.0, seed=1)
    compiled(third).fit(X, np.where(used, Y, -1), **WHOLE)
    np.testing.assert_allclose(second, first, rtol=1e-5)
    assert_close(model.model_b.get_weights(), expected.model_b.get_weights())
    assert_close(third.model.model_b.get_weights(), expected.model_b.get_weights())


def test_predictions_are_the_mean_and_metrics_see_them():
    a, b = network(1), network(2)
    model = compiled(kr.models.CoTeaching(a, b), 0.0, metrics=["accuracy"])
    mean = (a.predict(X, verbose=0) + b.predict(X, verbose=0)) / 2
    np.testing.assert_allclose(model.predict(X, verbose=0), mean, atol=1e-6)
    history = model.fit(X, Y, **WHOLE).history
    assert history["accuracy"][0] == pytest.approx(np.mean(mean.argmax(-1) == Y))
    assert model.evaluate(X, Y, verbose=0)[1] == pytest.approx(np.mean(mean.argmax(-1) == Y))


def test_gradient_rules_go_around_and_passes_are_counted():
    (a, one), (b, other) = counting_model(), counting_model()
    model = compiled(kr.models.SAM(kr.models.CoTeaching(a, b), rho=0.1))
    model.fit(X, Y, **WHOLE)  # Tracing done.
    passes = count(one, lambda: model.fit(X, Y, **WHOLE))
    assert tuple(passes) == (2, 2, 2) and other.passes == one.passes
    for split in (False, True):
        alone = compiled(kr.models.CoTeaching(counting_model()[0], b, split=split))
        alone.fit(X, Y, **WHOLE)
        assert tuple(count(other, lambda: alone.fit(X, Y, **WHOLE))) == (1 + split, 1, 1)  # noqa: B023


def test_training_goes_on_after_loading(tmp_path):
    inner = kr.models.CoTeaching(network(1), network(2), 0.3, split=True)
    model = compiled(kr.models.SAM(inner, rho=0.1))
    model.fit(X, Y, **WHOLE)
    model.save(tmp_path / "m.keras")
    restored = keras.models.load_model(tmp_path / "m.keras")
    for m in (model, restored):
        m.fit(X, Y, **WHOLE)
    assert_close(restored.get_weights(), model.get_weights())
    assert len(restored.trainable_variables) == 8


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda a: kr.models.CoTeaching(a, a), "Received the same one twice"),
        (lambda a: kr.models.CoTeaching(a, "b"), "`model_b` must be a plain `keras.Model`"),
        (lambda a: kr.models.CoTeaching(kr.models.SAM(a), network(2)), "wrappers go around"),
        (
            lambda a: kr.models.CoTeaching(a, network(2), 1.0),
            "`forget_rate` must be a number at least 0 and below 1",
        ),
        (lambda a: kr.models.CoTeaching(a, network(2), -0.1), "`forget_rate` must be a number"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make(network(1))


@pytest.mark.once
def test_outputs_must_have_equal_shapes():
    nets = [keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)]) for units in (4, 1)]
    with pytest.raises(ValueError, match="whose outputs have equal shapes"):
        kr.models.CoTeaching(*nets)(np.ones((2, 3), "float32"))


def test_labels_are_needed():
    with pytest.raises(ValueError, match="`CoTeaching` needs labels `y`"):
        compiled(kr.models.CoTeaching(network(1), network(2))).fit(X, **WHOLE)


def test_wrong_labels_are_left_out():
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    rng = np.random.default_rng(0)
    train, test = slice(0, 600), slice(600, None)
    wrong = rng.random(600) < 0.4
    noisy = np.where(wrong, (y[train] + rng.integers(1, 10, 600)) % 10, y[train])
    rising = keras.optimizers.schedules.PolynomialDecay(0.0, 30, end_learning_rate=0.4)
    accuracy = []
    for rate in (0.0, rising):
        nets = []
        for seed in (0, 1):
            keras.utils.set_random_seed(seed)
            stack = [keras.Input((64,)), layers.Dense(128, "relu"), layers.Dense(10)]
            nets.append(keras.Sequential(stack))
        model = kr.models.CoTeaching(*nets, rate)
        model.compile(keras.optimizers.Adam(5e-3), LOSS)
        model.fit(x[train], noisy, batch_size=100, epochs=40, verbose=0)
        predicted = model.predict(x[test], batch_size=2000, verbose=0).argmax(-1)
        accuracy.append(np.mean(predicted == y[test]))
    assert accuracy[1] > accuracy[0] + 0.05, accuracy
