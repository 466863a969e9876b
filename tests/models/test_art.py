"""ART: the penalty, the schedule over epochs and the network that is chosen."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_regularize.models import ART
from keras_regularize.optimizers import Masked
from keras_regularize.testing._common import to_numpy, values_and_gradients

RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 6)).astype("float32")
Y = (X[:, 0] > 0).astype("int32") + (X[:, 1] > 0)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network():
    """With the same weights on every backend."""
    net = keras.Sequential(
        [keras.Input((6,)), layers.Dense(16, "tanh"), layers.BatchNormalization(), layers.Dense(3)]
    )
    draw = np.random.default_rng(2).normal
    for layer in (net.layers[0], net.layers[2]):
        layer.kernel.assign(0.4 * draw(size=layer.kernel.shape))
    return net


def compiled(net, *arguments, rate=0.5, metrics=("accuracy",), **options):
    art = ART(net, *arguments, **options)
    art.compile(keras.optimizers.SGD(rate), LOSS, metrics=list(metrics))
    return art


def penalty_gradient(weights, sparsity):
    """That of the formula, in double precision."""
    w = np.concatenate([v.astype("float64").reshape(-1) for v in weights])
    magnitudes = np.abs(w)
    s = 0.6585 / np.sort(magnitudes)[int(sparsity * len(w))]
    return (
        np.sign(w)
        * s
        / np.cosh(s * magnitudes) ** 2
        * magnitudes.sum()
        / np.tanh(s * magnitudes).sum()
    )


def test_a_step_adds_the_gradient_of_the_formula():
    nets = [network(), network()]
    before = nets[0].get_weights()
    plain, art = (compiled(net, 0.7, f, warmup_epochs=0) for net, f in zip(nets, (0.0, 0.01)))
    for model in (plain, art):
        model.train_on_batch(X, Y)
    moved = [a - b for a, b in zip(nets[0].get_weights(), nets[1].get_weights())]
    gradient = 0.5 * 0.01 * penalty_gradient([before[0], before[6]], 0.7)
    np.testing.assert_allclose(moved[0].reshape(-1), gradient[:96], rtol=2e-3, atol=1e-6)
    np.testing.assert_allclose(moved[6].reshape(-1), gradient[96:], rtol=2e-3, atol=1e-6)
    np.testing.assert_array_equal(moved[1], 0)  # No bias.


def test_the_penalty_at_zeros_and_extremes():
    from keras_regularize.regularizers.hyper_sparse import hyper_sparse_loss

    rows = np.array([[0, 0, 0, 0], [0, 0, 0, -2], [1, 1, 1, 1], [1e4, -1e4, 1, 0]], "float32")
    for sparsity in (0.0, 0.5, 1.0):
        evaluate = values_and_gradients(
            lambda w, sparsity=sparsity: sum(hyper_sparse_loss(w[i], sparsity) for i in range(4))
        )
        value, gradient = evaluate(rows)
        assert float(to_numpy(value)) == 0.0
        assert np.isfinite(to_numpy(gradient)).all()
        np.testing.assert_array_equal(to_numpy(gradient)[rows == 0], 0)
    # The gradient does not depend on the scale. In float32 sech² is 1 - tanh²: exact to 1e-7 of its maximum.
    evaluate = values_and_gradients(lambda w: hyper_sparse_loss(w, 0.5))
    w = RNG.normal(size=20).astype("float32")
    for scale in (1.0, 1e-3):
        expected = penalty_gradient([w], 0.5)
        np.testing.assert_allclose(to_numpy(evaluate(scale * w)[1]), expected, rtol=1e-4, atol=1e-6)


class Strengths(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(float(to_numpy(self.model.strength)))


def test_fit_ends_with_a_sparse_network_that_keeps_its_accuracy():
    net, strengths = network(), Strengths()
    art = compiled(net, 0.85, 3e-3, 1.15, warmup_epochs=4, rate=0.1)
    options = {"epochs": 60, "batch_size": 8, "shuffle": False, "verbose": 0}
    history = art.fit(X, Y, callbacks=[strengths], **options).history
    stopped = len(history["loss"])
    expected = [*(4 * [0]), *(3e-3 * 1.15 ** np.arange(stopped - 4))]
    np.testing.assert_allclose(strengths.seen, expected, rtol=1e-5)
    pruned = np.array(history["pruned_accuracy"])
    assert 7 <= stopped < 60 and len(pruned) == stopped - 4
    means = np.convolve(pruned, np.ones(3) / 3, "valid")
    better = np.maximum.accumulate(means) > np.array(history["accuracy"][6:]) + 1e-6
    assert better[-1] and not better[:-1].any()

    chosen = pruned[int(means.argmax()) + 1]
    assert chosen > pruned[0] + 0.15  # Measured: 0.60 at first, 0.85 to 0.88 in the end.
    assert art.evaluate(X, Y, verbose=0, return_dict=True)["accuracy"] == pytest.approx(chosen)
    masks = art.masks()
    assert [mask is None for mask in masks] == [False, True, True, True, False, True]
    zeros = sum((~masks[i]).sum() for i in (0, 4))
    assert zeros == int(0.85 * (96 + 48))

    net.compile(Masked(keras.optimizers.SGD(0.05)), LOSS, metrics=["accuracy"])
    net.optimizer.build(net.trainable_variables)
    net.optimizer.set_masks(masks)
    net.fit(X, Y, epochs=2, verbose=0)
    assert sum((w == 0).sum() for w in (net.get_weights()[0], net.get_weights()[6])) == zeros


def test_without_accuracy_the_loss_chooses():
    art = compiled(network(), 0.5, warmup_epochs=0, window=0, metrics=())
    history = art.fit(X, Y, epochs=1, verbose=0).history
    assert art.evaluate(X, Y, verbose=0) == pytest.approx(history["pruned_loss"][0], rel=1e-5)
    assert sum((w == 0).sum() for w in art.get_weights() if w.ndim == 2) == 72


def test_errors():
    with pytest.raises(ValueError, match="can be read again"):
        compiled(network()).fit(iter([(X, Y)]), verbose=0)
    with pytest.raises(ValueError, match="takes 3 epochs after the 60 of the warm-up"):
        compiled(network()).masks()
    with pytest.raises(ValueError, match="makes kernels of dense and convolutional layers sparse"):
        compiled(keras.Sequential([keras.Input((6,)), layers.BatchNormalization()])).masks()
    for options, message in [
        ({"sparsity": 1.0}, "`sparsity` must be a number at least 0 and below 1"),
        ({"factor": -1.0}, "`factor` must be a number at least 0"),
        ({"growth": 0.5}, "`growth` must be a number at least 1"),
        ({"warmup_epochs": -1}, "`warmup_epochs` must be an integer of at least 0"),
        ({"window": -1}, "`window` must be an integer of at least 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            ART(network(), **options)
