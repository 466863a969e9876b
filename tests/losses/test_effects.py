"""What the losses are for, seen on scikit-learn's digits.

The networks of one experiment start from the same weights and take the same full-batch Adam steps, all in one
program: a compilation costs more than the training.
"""

import keras
import numpy as np
from keras import ops, tree
from sklearn.datasets import load_digits

import keras_regularize as kr

LOGITS = {"from_logits": True}


def digits(seed):
    """Images in [0, 1] and labels, shuffled."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(y))
    return (x[order] / 16).astype("float32"), y[order]


def compiled(function):
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    return function


def network(weights, x):
    for kernel, bias in zip(weights[:-2:2], weights[1:-2:2]):
        x = ops.relu(ops.matmul(x, kernel) + bias)
    return ops.matmul(x, weights[-2]) + weights[-1]


def train(losses, x, y, test, *, hidden, steps, learning_rate, outputs=10):
    """Logits on test inputs of a network per loss."""
    rng, start = np.random.default_rng(0), []
    sizes = [x.shape[1], *hidden, outputs]
    for a, b in zip(sizes, sizes[1:]):
        start += [rng.normal(0, (2 / (a + b)) ** 0.5, (a, b)), np.zeros(b)]
    start = [ops.convert_to_tensor(w.astype("float32")) for w in start]
    x, y = ops.convert_to_tensor(x), ops.convert_to_tensor(y)

    def total(weights):  # One network's gradient does not see the others' losses.
        return sum(loss(y, network(weights[name], x)) for name, loss in losses.items())

    gradient = kr.autodiff.grad(total)

    @compiled
    def step(weights, mean, square, size):
        grads = gradient(weights)
        mean = tree.map_structure(lambda m, g: 0.9 * m + 0.1 * g, mean, grads)
        square = tree.map_structure(lambda s, g: 0.999 * s + 0.001 * g * g, square, grads)
        weights = tree.map_structure(
            lambda w, m, s: w - size * m / (ops.sqrt(s) + 1e-7), weights, mean, square
        )
        return weights, mean, square

    weights = {name: start for name in losses}
    mean = square = tree.map_structure(ops.zeros_like, weights)
    for t in range(1, steps + 1):
        size = learning_rate * (1 - 0.999**t) ** 0.5 / (1 - 0.9**t)
        size = ops.convert_to_tensor(np.float32(size))
        weights, mean, square = step(weights, mean, square, size)
    return {name: ops.convert_to_numpy(network(weights[name], test)) for name in losses}


def crossentropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def test_calibration_losses_lower_the_error_of_an_over_confident_network():
    x, y = digits(0)
    x = x + np.random.default_rng(0).normal(0, 0.5, x.shape).astype("float32")
    losses = {
        "CE": crossentropy(),
        "MaxSup": kr.losses.MaxSup(0.1),
        "ACLS": kr.losses.ACLS(margin=3.0),
        "MbLS": kr.losses.MbLS(margin=4.0),
        "SpectralDecoupling": kr.losses.SpectralDecoupling(0.02),
        "FLSD": kr.losses.FLSD(),
    }
    predictions = train(
        losses, x[:400], y[:400], x[400:], hidden=[64], steps=60, learning_rate=0.02
    )
    ece, accuracy = {}, {}
    for name, logits in predictions.items():
        metric = kr.metrics.ExpectedCalibrationError(**LOGITS)
        metric.update_state(y[400:], logits)
        ece[name] = float(metric.result())
        accuracy[name] = np.mean(logits.argmax(-1) == y[400:])
    for name in losses:
        if name != "CE":
            assert ece[name] < ece["CE"] - 0.08, (name, ece)
            assert accuracy[name] > accuracy["CE"] - 0.08, (name, accuracy)


def test_long_tail_losses_raise_the_balanced_accuracy():
    x, y = digits(0)
    test, train_x, train_y = slice(1000, None), x[:1000], y[:1000]
    counts = np.round(70 * (3 / 70) ** (np.arange(10) / 9)).astype(int)
    keep = np.concatenate([np.flatnonzero(train_y == k)[:n] for k, n in enumerate(counts)])
    counts = np.bincount(train_y[keep])
    losses = {
        "CE": crossentropy(),
        "LogitAdjusted": kr.losses.LogitAdjusted(counts),
        "Seesaw": kr.losses.Seesaw(counts),
        "LDAM": kr.losses.LDAM(counts, max_margin=3.0, scale=1.0),
    }
    predictions = train(
        losses, train_x[keep], train_y[keep], x[test], hidden=[64], steps=60, learning_rate=0.01
    )
    balanced = {
        name: np.mean([np.mean(logits.argmax(-1)[y[test] == k] == k) for k in range(10)])
        for name, logits in predictions.items()
    }
    for name in losses:
        if name != "CE":
            assert balanced[name] > balanced["CE"] + 0.01, balanced


def test_symmetric_crossentropy_does_not_learn_wrong_labels():
    x, y = digits(0)
    rng = np.random.default_rng(0)
    noisy = np.where(rng.random(1000) < 0.4, rng.integers(0, 10, 1000), y[:1000])
    losses = {"CE": crossentropy(), "SCE": kr.losses.SymmetricCrossentropy(**LOGITS)}
    predictions = train(
        losses, x[:1000], noisy, x[1000:], hidden=[128, 128], steps=120, learning_rate=0.01
    )
    accuracy = {name: np.mean(z.argmax(-1) == y[1000:]) for name, z in predictions.items()}
    assert accuracy["SCE"] > accuracy["CE"] + 0.08, accuracy


def test_any_loss_raises_the_f1_score_of_a_rare_class():
    x, y = digits(0)
    y = (y == 8).astype("float32")
    rare = np.flatnonzero(y[:1000])[:25]
    keep = np.concatenate([rare, np.flatnonzero(y[:1000] == 0)])
    losses = {
        "BCE": keras.losses.BinaryCrossentropy(from_logits=True),
        "AnyLoss": kr.losses.AnyLoss("f1", 5.0, **LOGITS),
    }
    predictions = train(
        losses,
        x[keep],
        y[keep][:, None],
        x[1000:],
        hidden=[],
        steps=150,
        learning_rate=0.1,
        outputs=1,
    )
    f1 = {}
    for name, z in predictions.items():
        found, true = z[:, 0] > 0, y[1000:] > 0
        f1[name] = 2 * np.sum(found & true) / (np.sum(found) + np.sum(true))
    assert f1["AnyLoss"] > f1["BCE"] + 0.03, f1
