"""The memory and the loss of RationaleDense over batches, against loops over the rationales themselves."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

import keras_regularize as kr
from keras_regularize.layers import RationaleDense
from keras_regularize.losses import rationale_invariance
from keras_regularize.testing._common import fused, to_numpy, values_and_gradients

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 5)).astype("float32")
LABELS = np.array([0, 1, 1, 0, 0, 2, 1, -1])  # The last sample has none.


def loop(x, labels, kernel, bank, seen, momentum):
    """The loss of a batch; `bank` and `seen` are changed in place."""
    loss = 0.0
    for c in range(3):
        rationales = np.array([kernel.T * sample for sample in x[labels == c]])
        if len(rationales):
            mean = rationales.mean(axis=0)
            bank[c] = (1 - momentum) * bank[c] + momentum * mean if seen[c] else mean
            seen[c] = 1
            loss += np.mean(np.sum((rationales - bank[c]) ** 2, axis=2))
    return loss


def test_two_batches_equal_a_loop():
    layer = RationaleDense(3, momentum=0.3, factor=0.7)
    layer.build([(None, 5), (None,)])
    trainable = [v.value for v in layer.trainable_variables]

    def call(state, x, labels):
        return layer.stateless_call(
            trainable, state, [x, labels], training=True, return_losses=True
        )

    run, kernel = fused(call), to_numpy(layer.kernel).astype("float64")
    state = [v.value for v in layer.non_trainable_variables]
    bank, seen = np.zeros((3, 3, 5)), np.zeros(3)
    for x, labels in ((X[:4], LABELS[:4]), (X[4:], LABELS[4:])):
        logits, state, losses = run(state, x, labels)
        expected = 0.7 * loop(x, labels, kernel, bank, seen, 0.3)
        np.testing.assert_allclose(to_numpy(losses[0]), expected, rtol=1e-4)
        np.testing.assert_allclose(to_numpy(state[0]), bank, rtol=1e-4, atol=1e-6)
        assert np.array_equal(to_numpy(state[1]), seen)
        np.testing.assert_allclose(to_numpy(logits), x @ kernel, rtol=1e-4, atol=1e-5)


def test_is_a_dense_layer_at_inference():
    layer = RationaleDense(3)
    expected = to_numpy(layer(X))
    layer.bias.assign([1.0, 2.0, 3.0])
    for inputs in ([X, LABELS], [X, None], X):
        np.testing.assert_allclose(to_numpy(layer(inputs)), expected + [1, 2, 3], rtol=1e-5)
        assert layer.losses == [] and not to_numpy(layer.seen).any()


def test_a_sample_alone_or_many_times_is_at_no_distance_from_its_own_mean():
    kernel, bank = RNG.normal(size=(5, 3)).astype("float32"), np.zeros((3, 3, 5), "float32")

    def loss(x, labels, seen):
        return rationale_invariance(x, labels, kernel, bank, seen, momentum=0.25)[0]

    run = values_and_gradients(loss)
    rows = np.repeat(X[:1], 4, axis=0)
    value, slope = run(rows, np.zeros(4, "int32"), np.zeros(3, "int32"))
    assert to_numpy(value) == pytest.approx(0, abs=1e-6) and np.abs(to_numpy(slope)).max() < 1e-5
    # Known already, the class is at a distance from its memory: here 0, then a quarter of the rationale.
    value, _ = run(rows, np.zeros(4, "int32"), np.ones(3, "int32"))
    expected = np.sum((0.75 * kernel.T * X[0]) ** 2) / 3
    assert to_numpy(value) == pytest.approx(expected, rel=1e-4)
    # An empty batch, and a memory of classes that do not occur, cost nothing.
    value, _ = run(rows[:0], np.zeros(0, "int32"), np.ones(3, "int32"))
    assert to_numpy(value) == 0


def test_trains_with_labels_alone():
    x, labels = keras.Input((5,)), keras.Input((), dtype="int32", optional=True)
    layer = RationaleDense(3, factor=0.1)
    model = kr.models.WithLabels(keras.Model([x, labels], layer([x, labels])))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(X[:7], LABELS[:7], batch_size=7, verbose=0)
    assert to_numpy(layer.seen).all() and np.abs(to_numpy(layer.bank)).min() > 0
    with pytest.raises(ValueError, match="`RationaleDense` needs the labels in training"):
        layer(X, training=True)


@pytest.mark.rotating
def test_what_differs_between_domains_counts_less_in_an_unseen_one():
    # Noisy digits, four domains. In each a strong cue of its own names the class.
    rng = np.random.default_rng(1)
    images, digit = load_digits(return_X_y=True)
    images = images / 16 + rng.normal(0, 0.25, images.shape)
    x, y = [], []
    for part in np.array_split(rng.permutation(len(images))[:1796], 4):
        cue = 4 * np.eye(10)[rng.permutation(10)][digit[part]]
        x.append(np.concatenate([images[part], cue], axis=1).astype("float32"))
        y.append(digit[part])

    def accuracy(factor, held_out):
        keras.utils.set_random_seed(0)
        inputs, labels = keras.Input((74,)), keras.Input((), dtype="int32", optional=True)
        layer = RationaleDense(10, momentum=0.1, factor=factor)
        model = kr.models.WithLabels(keras.Model([inputs, labels], layer([inputs, labels])))
        crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.05), crossentropy)
        batch = [np.concatenate([v for d, v in enumerate(z) if d != held_out]) for z in (x, y)]
        for _ in range(60):
            model.train_on_batch(*batch)
        return np.mean(to_numpy(layer(x[held_out])).argmax(-1) == y[held_out])

    for held_out in (0, 1):
        plain, invariant = accuracy(0.0, held_out), accuracy(0.3, held_out)
        assert invariant > plain + 0.2, (plain, invariant)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: RationaleDense(0), "`units` must be an integer of at least 1"),
        (lambda: RationaleDense(3, 1.5), "`momentum` must be a number at least 0 and at most 1"),
        (lambda: RationaleDense(3, factor=-1), "`factor` must be a number at least 0"),
        (lambda: RationaleDense(3)(keras.Input((None,))), "needs a known number of features"),
        (lambda: rationale_invariance(X, LABELS, X.T[:, :3], X, X, 2), "`momentum` must be"),
        (
            lambda: rationale_invariance(X, LABELS, X.T[:, :3], np.zeros((3, 5)), np.zeros(3)),
            r"Expected features .* kernel.shape=\(5, 3\), bank.shape=\(3, 5\), initialized",
        ),
        (
            lambda: rationale_invariance(X, LABELS, X[:, :3], np.zeros((3, 3, 5)), np.zeros(3)),
            r"Expected features .* Received: features.shape=\(8, 5\), kernel.shape=\(8, 3\)",
        ),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
