"""What the losses are for, seen on scikit-learn's digits.

The networks of one experiment start from the same weights and see the same batches. They are branches of one
model, each with a loss of its own, so that one compilation trains them all.
"""

import keras
import numpy as np
from sklearn.datasets import load_digits

import keras_regularize as kr

LOGITS = {"from_logits": True}


def digits(seed):
    """Images in [0, 1] and labels, shuffled."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(y))
    return (x[order] / 16).astype("float32"), y[order]


def train(losses, x, y, *, hidden, epochs, batch_size, learning_rate, outputs=10):
    """Logits on new inputs of a network per loss, as a function."""
    inputs = keras.Input(x.shape[1:])
    sizes = [x.shape[1], *hidden, outputs]
    nets = []
    for _ in losses:
        layers = [keras.layers.Dense(units, activation="relu") for units in hidden]
        nets.append(keras.Sequential([inputs, *layers, keras.layers.Dense(outputs)]))
        rng = np.random.default_rng(0)  # The same weights on every backend.
        weights = []
        for a, b in zip(sizes, sizes[1:]):
            weights += [rng.normal(0, (2 / (a + b)) ** 0.5, (a, b)), np.zeros(b)]
        nets[-1].set_weights(weights)
    model = keras.Model(inputs, [net(inputs) for net in nets])
    model.compile(keras.optimizers.Adam(learning_rate), loss=list(losses.values()))
    model.fit(x, [y] * len(losses), epochs=epochs, batch_size=batch_size, verbose=0)

    def predict(x):
        return dict(zip(losses, map(np.asarray, model.predict(x, batch_size=2000, verbose=0))))

    return predict


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
    predict = train(
        losses, x[:400], y[:400], hidden=[64], epochs=60, batch_size=400, learning_rate=0.02
    )
    ece, accuracy = {}, {}
    for name, logits in predict(x[400:]).items():
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
    predict = train(
        losses,
        train_x[keep],
        train_y[keep],
        hidden=[64],
        epochs=60,
        batch_size=300,
        learning_rate=0.01,
    )
    balanced = {
        name: np.mean([np.mean(logits.argmax(-1)[y[test] == k] == k) for k in range(10)])
        for name, logits in predict(x[test]).items()
    }
    for name in losses:
        if name != "CE":
            assert balanced[name] > balanced["CE"] + 0.01, balanced


def test_symmetric_crossentropy_does_not_learn_wrong_labels():
    x, y = digits(0)
    rng = np.random.default_rng(0)
    noisy = np.where(rng.random(1000) < 0.4, rng.integers(0, 10, 1000), y[:1000])
    losses = {"CE": crossentropy(), "SCE": kr.losses.SymmetricCrossentropy(**LOGITS)}
    predict = train(
        losses, x[:1000], noisy, hidden=[128, 128], epochs=80, batch_size=500, learning_rate=0.01
    )
    accuracy = {name: np.mean(z.argmax(-1) == y[1000:]) for name, z in predict(x[1000:]).items()}
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
    predict = train(
        losses,
        x[keep],
        y[keep][:, None],
        hidden=[],
        epochs=150,
        batch_size=1000,
        learning_rate=0.1,
        outputs=1,
    )
    f1 = {}
    for name, z in predict(x[1000:]).items():
        found, true = z[:, 0] > 0, y[1000:] > 0
        f1[name] = 2 * np.sum(found & true) / (np.sum(found) + np.sum(true))
    assert f1["AnyLoss"] > f1["BCE"] + 0.03, f1
