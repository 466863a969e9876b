"""What the losses are for, seen mostly on scikit-learn's digits and diabetes data.

The networks of one experiment start from the same weights and take the same full-batch Adam steps, all in one
program: a compilation costs more than the training.
"""

import keras
import numpy as np
import pytest
from keras import ops, tree
from sklearn.datasets import load_diabetes, load_digits

import keras_regularize as kr
from tests.helpers import softmax

pytestmark = pytest.mark.rotating

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


def test_losses_for_wrong_labels_do_not_learn_them():
    x, y = digits(0)
    rng = np.random.default_rng(0)
    noisy = np.where(rng.random(1000) < 0.4, rng.integers(0, 10, 1000), y[:1000])
    losses = {
        "CE": crossentropy(),
        "SCE": kr.losses.SymmetricCrossentropy(**LOGITS),
        "BiTempered": kr.losses.BiTempered(t1=0.2, t2=2.0),
    }
    predictions = train(
        losses, x[:1000], noisy, x[1000:], hidden=[128, 128], steps=120, learning_rate=0.01
    )
    accuracy = {name: np.mean(z.argmax(-1) == y[1000:]) for name, z in predictions.items()}
    assert accuracy["SCE"] > accuracy["CE"] + 0.08, accuracy
    assert accuracy["BiTempered"] > accuracy["CE"] + 0.08, accuracy


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


def test_sparsemax_predicts_few_classes_and_as_well():
    x, y = digits(0)
    losses = {"CE": crossentropy(), "Sparsemax": kr.losses.Sparsemax()}
    predictions = train(
        losses, x[:200], y[:200], x[200:], hidden=[64], steps=60, learning_rate=0.01
    )
    accuracy = {name: np.mean(z.argmax(-1) == y[200:]) for name, z in predictions.items()}
    assert accuracy["Sparsemax"] > accuracy["CE"] - 0.03, accuracy
    zeros = ops.convert_to_numpy(kr.activations.sparsemax(predictions["Sparsemax"])) == 0
    assert 0.75 < zeros.mean() < 0.9  # At 0.9 no image would be in doubt.


def test_spectral_decoupling_learns_the_hard_feature_beside_the_easy_one():
    def moons(n, margin):
        y, angle = np.arange(n) % 2, np.random.default_rng(0).uniform(0, np.pi, n)
        side = 1 - 2 * y
        x = np.stack([y + side * np.cos(angle), y / 2 + side * (np.sin(angle) + margin)], axis=1)
        return x.astype("float32"), y.astype("float32")

    # Apart by their height alone in training. In the test only the shape of the moons tells them.
    (x, y), (test, labels) = moons(300, 0.35), moons(1000, -0.15)
    losses = {
        "BCE": keras.losses.BinaryCrossentropy(from_logits=True),
        "SpectralDecoupling": kr.losses.SpectralDecoupling(0.1),
    }
    predictions = train(
        losses, x, y[:, None], test, hidden=[100], steps=300, learning_rate=0.01, outputs=1
    )
    accuracy = {name: np.mean((z[:, 0] > 0) == labels) for name, z in predictions.items()}
    assert accuracy["SpectralDecoupling"] > accuracy["BCE"] + 0.08, accuracy


def diabetes():
    """Features and the progression of the disease in units of its deviation, shuffled."""
    x, y = load_diabetes(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    return (20 * x[order]).astype("float32"), ((y[order] - 152) / 77).astype("float32")


def test_z_error_is_not_moved_by_wrong_targets():
    x, y = diabetes()
    given = y[:300] + 2  # All but a few are positive.
    given[::20] *= 10
    losses = {
        "MSE": keras.losses.MeanSquaredError(),
        "Huber": keras.losses.Huber(),
        "ZError": kr.losses.ZErrorMSE(),
    }
    predictions = train(
        losses,
        x[:300],
        given[:, None],
        x[300:],
        hidden=[],
        steps=200,
        learning_rate=0.05,
        outputs=1,
    )
    error = {name: np.mean(np.abs(z[:, 0] - 2 - y[300:])) for name, z in predictions.items()}
    assert error["ZError"] < 0.7 * error["MSE"], error
    assert error["ZError"] < error["Huber"] + 0.1, error


class OfBags(keras.losses.Loss):
    """A loss of bags of eight from predictions of their members."""

    def __init__(self, interpolation):
        super().__init__()
        self.loss = kr.losses.AggregateResponse(interpolation)

    def call(self, y_true, y_pred):
        return self.loss.call(y_true, ops.reshape(y_pred, (-1, 8)))


def test_between_bag_and_instance_is_better_than_either():
    x, y = diabetes()
    means = y[:240].reshape(-1, 8).mean(axis=1)
    losses = {"bag": OfBags(0.0), "between": OfBags(0.02), "instance": OfBags(1.0)}
    predictions = train(
        losses, x[:240], means, x[240:], hidden=[32], steps=150, learning_rate=0.01, outputs=1
    )
    error = {name: np.mean((z[:, 0] - y[240:]) ** 2) for name, z in predictions.items()}
    assert error["between"] < min(error["bag"], error["instance"]) - 0.05, error


def weak_classifier(x, y, samples):
    """Probabilities for all images of a linear model that learns from the first ones alone."""
    losses = {"CE": crossentropy()}
    z = train(losses, x[:samples], y[:samples], x, hidden=[], steps=60, learning_rate=0.02)
    return softmax(z["CE"])


def test_what_a_rejector_accepts_is_right_as_often_as_its_cost_says():
    x, y = digits(0)
    p = weak_classifier(x, y, 30)
    right = (p.argmax(-1) == y).astype("float32")
    features = np.concatenate([x, np.sort(p)[:, -3:], np.eye(10)[p.argmax(-1)]], axis=1)
    losses = {str(cost): kr.losses.Rejection(cost, alpha=1.0) for cost in (0.05, 0.3)}
    predictions = train(
        losses,
        features[30:900].astype("float32"),
        right[30:900, None],
        features[900:].astype("float32"),
        hidden=[64],
        steps=200,
        learning_rate=0.005,
        outputs=1,
    )
    right, coverage = right[900:], {}
    for cost, z in predictions.items():
        accepted = z[:, 0] > 0
        coverage[cost] = accepted.mean()
        assert right[accepted].mean() > max(1 - float(cost), right.mean() + 0.2), cost
    assert coverage["0.05"] > 0.25 and coverage["0.3"] > coverage["0.05"] + 0.1, coverage


class OfLogits(keras.losses.Loss):
    """A loss of policies, for a network whose outputs are logits."""

    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def call(self, y_true, y_pred):
        return self.loss.call(y_true, ops.softmax(y_pred))


def test_a_policy_learns_from_the_actions_of_another_one():
    x, y = digits(0)
    logging = 0.9 * weak_classifier(x, y, 40) + 0.01
    rng, train_y = np.random.default_rng(0), y[:800]
    action = np.array([rng.choice(10, p=p) for p in logging[:800]])
    logged = np.stack([action, logging[np.arange(800), action], -1.0 * (action == train_y)], axis=1)
    losses = {str(alpha): OfLogits(kr.losses.SmoothedIPS(alpha)) for alpha in (0.5, 0.75)}
    predictions = train(
        losses, x[:800], logged.astype("float32"), x[800:], hidden=[], steps=100, learning_rate=0.05
    )
    rows = np.arange(len(y) - 800)
    before = logging[800:][rows, y[800:]].mean()
    for z in predictions.values():
        assert softmax(z)[rows, y[800:]].mean() > before + 0.15
