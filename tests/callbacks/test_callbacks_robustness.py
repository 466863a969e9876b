"""Robust accuracy in the logs of `fit`."""

import keras
import numpy as np
import pytest

import keras_regularize as kr

RNG = np.random.default_rng(0)
X = RNG.random((50, 4), "float32")
Y = np.argmax(X[:, :3], axis=1)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def model():
    net = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(3)]
    )
    net.compile(keras.optimizers.Adam(0.05), LOSS)
    return net


class Weights(keras.callbacks.Callback):
    """Keeps the weights at the end of every epoch."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def on_epoch_end(self, epoch, logs=None):
        self.kept.append(self.model.get_weights())


def test_logs_are_those_of_robust_accuracy(monkeypatch):
    # One attack with noise: the callback draws it anew in every measurement.
    attacks = [kr.attacks.FGSM(0.05), kr.attacks.PGD(0.05, 0.02, 3, random_start=False)]
    traced = []
    search = kr.attacks.FGSM.search
    monkeypatch.setattr(
        kr.attacks.FGSM, "search", lambda *args: (traced.append(None), search(*args))[1]
    )
    net, weights = model(), Weights()
    robust = kr.callbacks.RobustAccuracy(X, Y, attacks, batch_size=20)
    history = net.fit(X, Y, batch_size=10, epochs=3, callbacks=[robust, weights], verbose=0)
    logged = history.history["robust_accuracy"]
    if keras.backend.backend() != "torch":
        assert len(traced) <= 2  # Compiled once (TensorFlow may trace twice), not per epoch.
    assert len(logged) == 3 and len(set(logged)) > 1
    for number, kept in zip(logged, weights.kept):
        net.set_weights(kept)
        expected = kr.analysis.robust_accuracy(net, X, Y, attacks, batch_size=20)
        assert number == pytest.approx(expected, abs=1e-6)


def test_every_other_epoch_by_name_and_for_early_stopping():
    robust = kr.callbacks.RobustAccuracy(X, Y, kr.attacks.FGSM(9.0), every=2, name="worst")
    history = model().fit(X, Y, epochs=4, callbacks=[robust], verbose=0).history
    assert len(history["worst"]) == 2 and len(history["loss"]) == 4

    stop = keras.callbacks.EarlyStopping("robust_accuracy", mode="max", patience=1)
    net = model()
    net.optimizer.learning_rate = 0.0  # Nothing improves: the second epoch is the last.
    robust = kr.callbacks.RobustAccuracy(X, Y, kr.attacks.FGSM(0.05))
    history = net.fit(X, Y, epochs=5, callbacks=[robust, stop], verbose=0).history
    assert len(history["robust_accuracy"]) == 2


def test_bad_arguments():
    attack = kr.attacks.FGSM()
    with pytest.raises(ValueError, match="`attack` must be a callable"):
        kr.callbacks.RobustAccuracy(X, Y, "fgsm")
    with pytest.raises(ValueError, match="targeted"):
        kr.callbacks.RobustAccuracy(X, Y, kr.attacks.FGSM(targeted=True))
    with pytest.raises(ValueError, match="`every` must be an integer of at least 1"):
        kr.callbacks.RobustAccuracy(X, Y, attack, every=0)
    with pytest.raises(ValueError, match="`batch_size` must be an integer of at least 1"):
        kr.callbacks.RobustAccuracy(X, Y, attack, batch_size=0)
