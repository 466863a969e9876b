"""StochasticWeightAveraging: which weights it averages, and the statistics that belong to the mean."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_regularize import models
from keras_regularize.callbacks import StochasticWeightAveraging

RNG = np.random.default_rng(0)
X = RNG.normal(2.0, 3.0, size=(20, 4)).astype("float32")
Y = RNG.normal(size=(20, 2)).astype("float32")
SGD = keras.optimizers.SGD


class Record(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.weights, self.rates = [], []

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(
            [np.array(v) for v in map(keras.ops.convert_to_numpy, self.model.trainable_variables)]
        )
        self.rates.append(float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)))


def dense():
    return keras.Sequential([keras.Input((4,)), layers.Dense(3, "tanh"), layers.Dense(2)])


def normalized():
    inputs = keras.Input((4,))
    x = layers.BatchNormalization(momentum=0.9, name="first")(inputs)
    x = layers.Dropout(0.0)(layers.Dense(3)(x))
    x = keras.Sequential([layers.BatchNormalization(name="second")])(x)
    return keras.Model(inputs, layers.Dense(2)(x))


def fit(model, averaging, epochs=7, **options):
    record = Record()
    options = {"batch_size": 8, "verbose": 0, "callbacks": [record, averaging], **options}
    model.fit(X, Y, epochs=epochs, **options)
    return record


@pytest.mark.parametrize("wrap", [lambda m: m, models.SAM, lambda m: models.VAT(models.SAM(m))])
@pytest.mark.parametrize(
    "start, period, taken", [(0, 1, range(7)), (2, 2, [2, 4, 6]), (3, 3, [3, 6])]
)
def test_the_mean_of_the_epochs_from_the_start_on(wrap, start, period, taken):
    net = dense()
    model = wrap(net)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile(SGD(0.5), loss)
    averaging = StochasticWeightAveraging(start, period, learning_rate=0.25)
    record = Record()
    y = np.eye(2, dtype="float32")[(Y[:, 0] > 0).astype(int)]
    model.fit(X, y, batch_size=8, epochs=7, verbose=0, callbacks=[record, averaging])
    expected = [np.mean([record.weights[e][i] for e in taken], 0) for i in range(4)]
    for found, mean in zip(net.get_weights(), expected):
        np.testing.assert_allclose(found, mean, rtol=1e-5, atol=1e-6)
    assert averaging.count == len(taken)
    assert record.rates == [0.5] * start + [0.25] * (7 - start)
    averaging.restore()
    for found, last in zip(net.get_weights(), record.weights[-1]):
        np.testing.assert_array_equal(found, last)
    with pytest.raises(ValueError, match="nothing to restore"):
        averaging.restore()


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, i):
        part = slice(8 * i, 8 * i + 8)
        return X[part], Y[part]


class Stream:
    def __iter__(self):
        return iter([X[:8], X[8:16], X[16:]])


@pytest.mark.parametrize("data", [X, Batches(), Stream()])
@pytest.mark.parametrize("wrap", [lambda m: m, models.SAM])
def test_statistics_are_those_of_the_mean_weights_over_the_data(data, wrap):
    net = normalized()
    model = wrap(net)
    model.compile(SGD(0.1), "mse")
    averaging = StochasticWeightAveraging(3, data=data, batch_size=8)
    fit(model, averaging)
    sizes = np.array([8, 8, 4]) / 20
    parts = [X[:8], X[8:16], X[16:]]
    first, second = net.layers[1], net.layers[4].layers[0]
    means = sum(s * p.mean(0) for s, p in zip(sizes, parts))
    variances = sum(s * p.var(0) for s, p in zip(sizes, parts))
    np.testing.assert_allclose(first.get_weights()[2], means, rtol=1e-5)
    np.testing.assert_allclose(first.get_weights()[3], variances, rtol=1e-5)
    gamma, beta = first.get_weights()[:2]
    kernel, bias = net.layers[2].get_weights()
    hidden = [(p - p.mean(0)) / np.sqrt(p.var(0) + 1e-3) * gamma + beta for p in parts]
    hidden = [h @ kernel + bias for h in hidden]
    expected = sum(s * h.mean(0) for s, h in zip(sizes, hidden))
    np.testing.assert_allclose(second.get_weights()[2], expected, rtol=1e-3, atol=1e-5)
    expected = sum(s * h.var(0) for s, h in zip(sizes, hidden))
    np.testing.assert_allclose(second.get_weights()[3], expected, rtol=1e-3)
    assert first.momentum == 0.9


def test_saving_and_training_on(tmp_path):
    whole, halves = dense(), dense()
    halves.set_weights(whole.get_weights())
    for net in (whole, halves):
        net.compile(SGD(0.1, momentum=0.5), "mse")
    straight = StochasticWeightAveraging(2)
    fit(whole, straight, shuffle=False)
    first = StochasticWeightAveraging(2)
    fit(halves, first, epochs=4, shuffle=False)
    state = first.get_state()
    first.restore()
    halves.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    second = StochasticWeightAveraging(2)
    second.set_state(state)
    fit(loaded, second, initial_epoch=4, shuffle=False)
    assert second.count == straight.count == 5
    for one, other in zip(whole.get_weights(), loaded.get_weights()):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    # From epoch 0 it begins anew.
    fit(loaded, second, epochs=3)
    assert second.count == 1


def test_frozen_normalization_and_other_state_stay():
    net = normalized()
    net.layers[1].trainable = False
    before = net.layers[1].get_weights()
    seeds = [v for v in net.non_trainable_variables if "seed" in v.path]
    net.compile(SGD(0.1), "mse")
    averaging = StochasticWeightAveraging(0, data=X)
    fit(net, averaging, epochs=2)
    for one, other in zip(before, net.layers[1].get_weights()):
        np.testing.assert_array_equal(one, other)
    assert len(seeds) == len([v for v in net.non_trainable_variables if "seed" in v.path])


def test_the_mean_of_a_noisy_training_is_better_than_its_end():
    x = RNG.normal(size=(200, 6)).astype("float32")
    y = x @ RNG.normal(size=(6, 1)).astype("float32") + RNG.normal(size=(200, 1)).astype("float32")
    test = RNG.normal(size=(500, 6)).astype("float32")
    net = keras.Sequential([keras.Input((6,)), layers.Dense(1)])
    net.compile(SGD(0.05), "mse")
    averaging = StochasticWeightAveraging(5)

    class Draws(keras.utils.PyDataset):  # Of another order in each epoch, with any seed.
        def __len__(self):
            return 50

        def __getitem__(self, i):
            rows = RNG.integers(0, 200, 4)
            return x[rows], y[rows]

    net.fit(Draws(), epochs=30, verbose=0, callbacks=[averaging])
    exact = np.linalg.lstsq(np.c_[x, np.ones(200)], y, rcond=None)[0]
    target = np.c_[test, np.ones(500)] @ exact
    averaged = np.mean((net.predict(test, verbose=0) - target) ** 2)
    averaging.restore()
    last = np.mean((net.predict(test, verbose=0) - target) ** 2)
    assert averaged < 0.3 * last


def test_errors():
    net = normalized()
    net.compile(SGD(0.1), "mse")
    with pytest.raises(ValueError, match=r"needs `data`.*'first'.*"):
        fit(net, StochasticWeightAveraging(0))
    with pytest.warns(UserWarning, match="starts after epoch 9 and has averaged nothing"):
        fit(net, StochasticWeightAveraging(9, data=X), epochs=1)
    net.compile(SGD(keras.optimizers.schedules.CosineDecay(0.1, 10)), "mse")
    with pytest.raises(
        ValueError, match="sets the learning rate, so the optimizer's must be a number"
    ):
        fit(net, StochasticWeightAveraging(0, learning_rate=0.1, data=X))
    with pytest.raises(ValueError, match="`period` must be an integer of at least 1"):
        StochasticWeightAveraging(0, 0)
