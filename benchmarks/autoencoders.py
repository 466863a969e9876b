"""What a step of a variational autoencoder costs, beside one that is written by hand, and the Fréchet distance."""

import keras
import numpy as np
from keras import layers, ops
from rich.console import Group

import keras_regularize as kr
from benchmarks.timing import race, ratio_table

BY_HAND = "Keras model written by hand"
BY_PRODUCT = "eigenvalues of the product, NumPy"
FEATURES, SAMPLES = 256, 2000


class Plain(keras.Model):
    """The usual example: a layer that draws, the divergence by `add_loss`."""

    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.seed = keras.random.SeedGenerator(0)

    def call(self, x):
        mean, log_variance = self.encoder(x)
        noise = keras.random.normal(ops.shape(mean), seed=self.seed)
        terms = ops.square(mean) + ops.exp(log_variance) - log_variance - 1.0
        self.add_loss(0.5 * ops.mean(ops.sum(terms, axis=1)))
        return self.decoder(mean + ops.exp(0.5 * log_variance) * noise)


def parts():
    x = keras.Input((784,))
    hidden = layers.Dense(512, "relu")(x)
    encoder = keras.Model(x, [layers.Dense(16)(hidden), layers.Dense(16)(hidden)])
    stack = [layers.Dense(512, "relu"), layers.Dense(784)]
    return encoder, keras.Sequential([keras.Input((16,)), *stack])


def steps(quick, on_turn):
    x = np.random.default_rng(0).random((128, 784)).astype("float32")
    plain = Plain(*parts())
    plain.compile("adam", lambda y, p: 0.5 * ops.sum(ops.square(y - p), axis=-1))
    models = {BY_HAND: (plain, (x, x))}
    for balance in (None, "computed", "learned", "optimal"):
        model = kr.models.VAE(*parts(), balance=balance)
        model.compile("adam")
        models[f"VAE, balance={balance!r}"] = model, (x,)

    def run(model, data):
        def step():
            model.train_on_batch(*data)  # What it returns is a loss, no time.

        return step

    runs = {name: run(*given) for name, given in models.items()}
    timings = race(runs, 15 if quick else 60, warmups=3, on_turn=on_turn)
    title = f"{keras.backend.backend()}: a step of a variational autoencoder on 128 × 784"
    return ratio_table(title, timings, BY_HAND, bars={"VAE, balance='computed'": 1.2})


def frechet(quick, on_turn):
    """The metric beside the formula in use elsewhere, once the features are there."""
    real, made = np.random.default_rng(0).normal(size=(2, SAMPLES, FEATURES)).astype("float32")
    identity = keras.Sequential([keras.Input((FEATURES,)), layers.Identity()])
    metric = kr.metrics.FrechetDistance(identity)

    def ours():
        metric.reset_state()
        metric.update_state(real, made)
        float(metric.result())

    def theirs():
        a, b = real.astype("float64"), made.astype("float64")
        gap = a.mean(0) - b.mean(0)
        c, d = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
        roots = np.sqrt(np.linalg.eigvals(c @ d).astype("complex128")).real.sum()
        return None if gap @ gap + np.trace(c) + np.trace(d) - 2 * roots else None

    runs = {BY_PRODUCT: theirs, "FrechetDistance": ours}
    timings = race(runs, 3 if quick else 9, warmups=1, on_turn=on_turn)
    title = f"{keras.backend.backend()}: distance of 2 × {SAMPLES} samples with {FEATURES} features"
    return ratio_table(title, timings, BY_PRODUCT, bars={"FrechetDistance": 1.0})


def table(quick=False, on_turn=None):
    return Group(steps(quick, on_turn), frechet(quick, on_turn))
