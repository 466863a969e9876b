"""What methods of robust training reach on scikit-learn's digits: accuracy, and accuracy under attack."""

import statistics

import keras
import numpy as np
from keras import layers
from rich.table import Table
from sklearn.datasets import load_digits

import keras_regularize as kr
from keras_regularize.analysis import robust_accuracy

EPSILON = 0.1
EPOCHS = 40
TRAINING = 1200


def network():
    return keras.Sequential(
        [
            keras.Input((64,)),
            layers.Dense(256, activation="relu"),
            layers.Dense(256, activation="relu"),
            layers.Dense(10),
        ]
    )


def pgd(steps=7, **options):
    step_size = EPSILON / 4 if steps > 1 else 1.25 * EPSILON
    return kr.attacks.PGD(EPSILON, step_size, steps, **options)


def trades(net):
    return kr.models.TRADES(net, pgd(loss="kl", random_start="gaussian"), beta=6.0)


METHODS = {
    "standard": lambda net: net,
    "FGSM-RS": lambda net: kr.models.AdversarialTraining(net, pgd(steps=1)),
    "PGD-7": lambda net: kr.models.AdversarialTraining(net, pgd()),
    "TRADES": trades,
    "AWP(TRADES)": lambda net: kr.models.AWP(trades(net), gamma=0.01),
    "MART": lambda net: kr.models.MART(net, pgd(random_start="gaussian")),
    "ARoW": lambda net: kr.models.ARoW(net, pgd(loss="kl")),
    "ALP": lambda net: kr.models.ALP(net, pgd()),
    "AdvCompSum": lambda net: kr.models.AdvCompSum(net, pgd(loss="margin_shift")),
}


def train(name, seed, epochs):
    """`(accuracy, accuracy under PGD-20)` on the test images after one training."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(y))
    x, y = (x[order] / 16).astype("float32"), y[order]
    keras.utils.set_random_seed(seed)
    net = network()
    model = METHODS[name](net)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    model.fit(x[:TRAINING], y[:TRAINING], batch_size=64, epochs=epochs, verbose=0)

    x, y = x[TRAINING:], y[TRAINING:]
    accuracy = np.mean(np.argmax(net.predict(x, batch_size=len(x), verbose=0), axis=-1) == y)
    net.compile(loss=loss)
    return accuracy, robust_accuracy(net, x, y, pgd(20, seed=seed), batch_size=len(x))


def table(quick=False, on_turn=None):
    epochs, seeds = (EPOCHS // 4, 1) if quick else (EPOCHS, 2)
    result = Table(
        title=f"{keras.backend.backend()}: robust training on digits, {epochs} epochs, {seeds} seed(s)",
        title_justify="left",
        caption=f"Under PGD-20 every pixel may move by {EPSILON} (range 0 to 1). Mean over seeds.",
    )
    result.add_column("method", no_wrap=True)
    result.add_column("accuracy, %", justify="right")
    result.add_column("under PGD-20, %", justify="right")
    for name in METHODS:
        runs = []
        for seed in range(seeds):
            if on_turn:
                on_turn(f"{name}, seed {seed}")
            runs.append(train(name, seed, epochs))
        result.add_row(name, *(f"{100 * statistics.mean(values):.1f}" for values in zip(*runs)))
    return result
