"""Pruning callbacks: what they remove, when, and that it stays removed."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_regularize.callbacks import IterativePruning, ThresholdPruning
from keras_regularize.optimizers import LOBSTER, IrrelevantWeightDecay, Masked

SGD = keras.optimizers.SGD
# With orthogonal inputs the loss of a linear model is a sum over its weights.
X = np.sqrt(8.0) * np.eye(8, dtype="float32")
TRUTH = np.array([[1.0], [-0.9], [0.8], [-0.4], [0.3], [0.2], [-0.1], [0.05]], "float32")
Y = X @ TRUTH + 1.0
TEST = (X, Y + 0.5)


def model(optimizer):
    net = keras.Sequential([keras.Input((8,)), layers.Dense(1)])
    net.set_weights([TRUTH, np.array([1.0])])
    net.compile(optimizer, "mse")
    return net


def most(tolerance):
    """How many of the weights the loss allows to prune, smallest first, and which are left."""
    kept = np.append(TRUTH[:, 0], 1.0)
    for i in np.argsort(np.abs(kept), kind="stable"):
        less = np.where(np.arange(9) == i, 0, kept)
        loss = np.mean((X @ less[:8] + less[8] - TEST[1][:, 0]) ** 2)
        if loss > (1 + tolerance) * 0.25:
            break
        kept = less
    return kept


def test_prunes_the_most_that_the_loss_tolerates():
    # A training that does not move: pruned after the third epoch.
    net, left = model(Masked(SGD(0.0))), most(1.5)
    pruning = ThresholdPruning(TEST, tolerance=1.5, patience=2)
    history = net.fit(X, Y, epochs=4, verbose=0, callbacks=[pruning]).history
    assert 2 < (left == 0).sum() < 8
    np.testing.assert_allclose(history["sparsity"], [0, 0, *2 * [(left == 0).mean()]])
    np.testing.assert_array_equal(np.concatenate(net.get_weights(), axis=None), left)


def test_best_weights_return_and_training_ends_when_nothing_is_left_to_prune():
    # The validation data ask for other weights: the first epoch is the best.
    x, y = X, Y + 3.0
    net = model(LOBSTER(SGD(0.005), 0.0))
    pruning = ThresholdPruning((X, Y), tolerance=0.0, patience=1, where="kernel")
    history = net.fit(x, y, epochs=9, batch_size=8, verbose=0, callbacks=[pruning]).history
    assert len(history["loss"]) == 2 and history["sparsity"][-1] == 0
    np.testing.assert_allclose(net.get_weights()[1], 1 + 2 * 0.005 * 3, rtol=1e-5)


def test_pruned_weights_stay_zero_in_training_and_after_saving(tmp_path):
    net = model(IrrelevantWeightDecay(Masked(SGD(0.05, momentum=0.5)), 1e-3))
    pruning = IterativePruning(1e9, "loss", fraction=0.2, where="kernel")
    net.fit(X, Y, epochs=4, batch_size=4, verbose=0, callbacks=[pruning])
    zeros = net.get_weights()[0] == 0
    assert zeros.sum() == 4 and pruning.sparsity() == zeros.mean()
    net.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    restored.fit(X, Y, epochs=2, batch_size=4, verbose=0)
    np.testing.assert_array_equal(restored.get_weights()[0] == 0, zeros)


def test_a_fixed_part_goes_after_every_epoch_that_keeps_the_bound():
    net = keras.Sequential([keras.Input((100,)), layers.Dense(1)])
    start = np.random.default_rng(0).permutation(np.arange(1.0, 101.0))[:, None]
    net.set_weights([start, np.array([1000.0])])
    net.compile(Masked(SGD(0.0)), "mse")
    pruning = IterativePruning(0.9, "score")
    scores = [0.9, 0.95, 0.89, 1.0, float("nan"), 0.2]

    class Score(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["score"] = scores[epoch]

    x = np.zeros((2, 100), "float32")
    callbacks = [Score(), pruning]
    history = net.fit(x, x[:, :1], epochs=6, verbose=0, callbacks=callbacks).history
    # Of 101 weights 10 go, of 91 then 9, of 82 then 8.
    pruned = np.array([10, 19, 19, 27, 27, 27])
    np.testing.assert_allclose(history["sparsity"], pruned / 101, rtol=1e-6)
    kernel, bias = net.get_weights()
    np.testing.assert_array_equal(kernel, np.where(start > 27, start, 0))
    assert bias == 1000


def test_what_is_monitored():
    data = {"validation_data": (X, Y), "verbose": 0}
    for monitor, bound, pruned in [
        ("val_loss", 1.0, 3),
        ("val_loss", -1.0, 0),
        ("val_mae", 0.0, 3),
    ]:
        net = model(Masked(SGD(0.0)))
        net.compile(net.optimizer, "mse", metrics=["mae"])
        pruning = IterativePruning(bound, monitor, fraction=1 / 9)
        # A validation after epochs 2, 4 and 6.
        net.fit(X, Y, epochs=6, validation_freq=2, callbacks=[pruning], **data)
        assert round(9 * pruning.sparsity()) == pruned
    with pytest.raises(ValueError, match="monitors a value that is not in the logs"):
        model(Masked("sgd")).fit(X, Y, callbacks=[IterativePruning(0.5)], **data)
    with pytest.warns(UserWarning, match="never saw 'val_accuracy' and has pruned nothing"):
        model(Masked("sgd")).fit(X, Y, verbose=0, callbacks=[IterativePruning(0.5)])


def test_pruning_restarts_the_schedule_of_the_factor():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([3], [0.5, 0.0])
    net = model(IrrelevantWeightDecay(Masked(SGD(0.5)), schedule))
    net.set_weights([np.ones((8, 1)), np.ones(1)])
    x = np.zeros((2, 8), "float32")  # Only the bias moves by the loss; of equal weights one goes.
    history = []

    class Record(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            history.append(self.model.get_weights()[0].max())

    class Once(IterativePruning):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, {**logs, "gate": float(epoch == 4)})

    callbacks = [Record(), Once(1.0, "gate", fraction=0.2, where="kernel")]
    net.fit(x, x[:, :1] + 1, epochs=10, batch_size=2, verbose=0, callbacks=callbacks)
    halvings = [1, 2, 3, 4, 4]  # The step of the boundary is the last of the first value.
    np.testing.assert_allclose(history[:5], 0.5 ** np.array(halvings), rtol=1e-6)
    np.testing.assert_allclose(history[5:], 0.5 ** (4.0 + np.array(halvings)), rtol=1e-6)


def test_errors():
    for callback in (ThresholdPruning(TEST), IterativePruning(0.5)):
        with pytest.raises(ValueError, match="which keep pruned weights at zero"):
            model(SGD(0.1)).fit(X, Y, verbose=0, callbacks=[callback])
    for make, message in [
        (lambda: ThresholdPruning(TEST, tolerance=-1), "`tolerance` must be a number at least 0"),
        (lambda: ThresholdPruning(TEST, patience=0), "`patience` must be an integer of at least 1"),
        (lambda: ThresholdPruning(TEST, where=2), "`where` must be the name of a variable"),
        (lambda: IterativePruning(None), "`bound` must be a number"),
        (lambda: IterativePruning(0.5, mode="best"), "`mode` must be one of 'auto', 'max', 'min'"),
        (
            lambda: IterativePruning(0.5, fraction=1),
            "`fraction` must be a number above 0 and below 1",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            make()
