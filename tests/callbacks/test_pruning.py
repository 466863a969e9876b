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


@pytest.mark.parametrize(
    "make",
    [
        lambda: ThresholdPruning(TEST, tolerance=1.5, patience=2),
        lambda: IterativePruning(TEST, tolerance=1.5, start=3, every=10),
    ],
)
def test_prunes_the_most_that_the_loss_tolerates(make):
    # A training that does not move: pruned after the third epoch.
    net, left = model(Masked(SGD(0.0))), most(1.5)
    history = net.fit(X, Y, epochs=4, verbose=0, callbacks=[make()]).history
    assert 2 < (left == 0).sum() < 8
    np.testing.assert_allclose(history["sparsity"], [0, 0, *2 * [(left == 0).mean()]])
    np.testing.assert_array_equal(np.concatenate(net.get_weights(), axis=None), left)


def test_best_weights_return_and_training_ends_when_nothing_is_left_to_prune():
    # The validation data ask for other weights: the first epoch is the best.
    x, y = X, Y + 3.0
    net = model(LOBSTER(SGD(0.005), 0.0))
    pruning = ThresholdPruning((X, Y), tolerance=0.0, patience=1, rank_filter=2)
    history = net.fit(x, y, epochs=9, batch_size=8, verbose=0, callbacks=[pruning]).history
    assert len(history["loss"]) == 2 and history["sparsity"][-1] == 0
    np.testing.assert_allclose(net.get_weights()[1], 1 + 2 * 0.005 * 3, rtol=1e-5)


def test_pruned_weights_stay_zero_in_training_and_after_saving(tmp_path):
    net = model(IrrelevantWeightDecay(Masked(SGD(0.05, momentum=0.5)), 1e-3))
    pruning = IterativePruning((X, Y), tolerance=0.0, start=1, every=1, rank_filter=2)
    pruning.on_epoch_end = lambda epoch, logs: None if epoch else pruning.prune(0.2)
    net.fit(X, Y, epochs=4, batch_size=4, verbose=0, callbacks=[pruning])
    zeros = net.get_weights()[0] == 0
    assert 3 <= zeros.sum() < 8 and pruning.sparsity() == zeros.mean()
    net.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    restored.fit(X, Y, epochs=2, batch_size=4, verbose=0)
    np.testing.assert_array_equal(restored.get_weights()[0] == 0, zeros)


def test_the_bound_of_iterative_pruning_is_that_of_the_dense_model():
    net = model(Masked(SGD(0.02)))
    pruning = IterativePruning(TEST, tolerance=0.5, start=1, every=1)
    history = net.fit(X, Y + 0.5, epochs=6, verbose=0, callbacks=[pruning]).history
    assert all(b >= a for a, b in zip(history["sparsity"], history["sparsity"][1:]))
    assert history["sparsity"][-1] > history["sparsity"][0] > 0


def test_errors():
    for callback in (ThresholdPruning(TEST), IterativePruning(TEST)):
        with pytest.raises(ValueError, match="which keep pruned weights at zero"):
            model(SGD(0.1)).fit(X, Y, verbose=0, callbacks=[callback])
    for make, message in [
        (lambda: ThresholdPruning(TEST, tolerance=-1), "`tolerance` must be a number at least 0"),
        (lambda: ThresholdPruning(TEST, patience=0), "`patience` must be an integer of at least 1"),
        (lambda: ThresholdPruning(TEST, rank_filter=0), "`rank_filter` must be an integer"),
        (lambda: IterativePruning(TEST, start=0), "`start` must be an integer of at least 1"),
        (lambda: IterativePruning(TEST, every=0), "`every` must be an integer of at least 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()
