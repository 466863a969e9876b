"""What learning features costs: losses of pairs beside bare products, steps on views and of autoencoders."""

import importlib.util

import keras
import numpy as np
from keras import layers, ops
from rich.console import Group

import keras_regularize as kr
from benchmarks.losses import contestant
from benchmarks.timing import race, ratio_table

SIZE, WIDTH = 1024, 128
BARE = "two products and a softmax"


def bare(y, z):
    """What a loss of all pairs cannot do without: a product, a softmax, and a product for the gradient's sake."""
    shares = ops.softmax(ops.matmul(z, ops.transpose(z)) / WIDTH)
    return ops.sum(ops.square(ops.matmul(shares, z)))


def losses(quick, on_turn):
    generator = np.random.default_rng(0)
    z = ops.convert_to_tensor(generator.normal(size=(SIZE, WIDTH)).astype("float32"))
    views = ops.reshape(z, (SIZE // 2, 2, WIDTH))
    y = ops.convert_to_tensor(generator.integers(0, 10, SIZE))
    runs = {
        BARE: contestant(bare, y, z),
        "NTXent": contestant(kr.losses.NTXent(), y[: SIZE // 2], views),
        "SupCon": contestant(kr.losses.SupCon(), y, z),
        "ICon, SupCon": contestant(kr.losses.ICon.preset("supcon"), y, z),
        "ICon, t-SNE": contestant(kr.losses.ICon.preset("tsne"), z, z),
        "ICon, clusters": contestant(
            kr.losses.ICon.preset("infonce_clustering", from_logits=True), z, z[:, :10]
        ),
        "Triplet, hard": contestant(kr.losses.Triplet(), y, z),
        "Triplet, all": contestant(kr.losses.Triplet(mining="all"), y, z),
    }
    bars = {"NTXent": 1.3, "SupCon": 1.3}
    rounds = 5 if quick else 15
    timings = race(runs, rounds, warmups=2, on_turn=on_turn)
    title = f"{keras.backend.backend()}: losses of {SIZE} × {WIDTH} features"
    tables = [ratio_table(title, timings, BARE, bars=bars)]
    if keras.backend.backend() == "torch" and importlib.util.find_spec("pytorch_metric_learning"):
        from pytorch_metric_learning.losses import SupConLoss

        # Their `NTXentLoss` holds a number for each positive pair and each negative one: gigabytes here.
        ids = ops.convert_to_tensor(np.arange(SIZE) // 2)
        theirs, both = SupConLoss(0.07), "pytorch-metric-learning SupConLoss"
        for name, labels in (("NTXent", ids), ("SupCon", y)):
            pair = {both: contestant(lambda y, z: theirs(z, y), labels, z), name: runs[name]}
            timings = race(pair, rounds, warmups=2, on_turn=on_turn)
            title = f"torch: {name} beside another package's"
            tables.append(ratio_table(title, timings, both, bars={name: 1.0}))
    return tables


def run(model, *data):
    def step():
        model.train_on_batch(*data)  # What it returns is a loss, no time.

    return step


def steps_on_views(quick, on_turn):
    """Steps on two views beside the same passes on rows that are views already."""
    x = np.random.default_rng(0).normal(size=(256, 2, 64)).astype("float32")
    rows, ids = x.reshape(512, 64), np.arange(512) // 2

    def network():
        hidden = [layers.Dense(512, "relu") for _ in range(3)]
        return keras.Sequential([keras.Input((64,)), *hidden, layers.Dense(64)])

    plain, multi = network(), kr.models.MultiView(network())
    momentum = kr.models.MomentumViews(network())
    queue = kr.models.MomentumViews(network(), queue=kr.layers.NegativeQueue(4096))
    for model in (plain, multi):
        model.compile("sgd", kr.losses.NTXent())
    momentum.compile("sgd", kr.losses.InfoNCE(symmetric=False))
    queue.compile("sgd")
    zeros = np.zeros(256, "float32")
    runs = {
        "plain model on rows": run(plain, rows, ids),
        "MultiView": run(multi, x, zeros),
        "MomentumViews": run(momentum, x, zeros),
        "MomentumViews, queue of 4096": run(queue, x),
    }
    timings = race(runs, 15 if quick else 60, warmups=3, on_turn=on_turn)
    title = f"{keras.backend.backend()}: a step on two views of 256 samples"
    return ratio_table(title, timings, "plain model on rows", bars={"MultiView": 1.02})


def steps_of_autoencoders(quick, on_turn):
    """Steps of autoencoders beside that of a plain one, which is a pass forward and one back."""
    x = np.random.default_rng(0).normal(size=(256, 64)).astype("float32")

    def half(inputs, outputs):
        sizes = [layers.Dense(256, "tanh"), layers.Dense(outputs)]
        return keras.Sequential([keras.Input((inputs,)), *sizes])

    def whole():
        return keras.Sequential([keras.Input((64,)), half(64, 16), half(16, 64)])

    models = {
        "plain autoencoder": whole(),
        "DenoisingAutoencoder": kr.models.DenoisingAutoencoder(whole()),
        "ContractiveAutoencoder, noise": kr.models.ContractiveAutoencoder(whole(), method="noise"),
        "ContractiveAutoencoder, exact": kr.models.ContractiveAutoencoder(whole()),
        "JacobianNuclearNorm": kr.models.JacobianNuclearNorm(half(64, 16), half(16, 64)),
    }
    for model in models.values():
        model.compile("sgd", "mse")
    runs = {name: run(model, x, x) for name, model in models.items()}
    timings = race(runs, 9 if quick else 40, warmups=3, on_turn=on_turn)
    title = f"{keras.backend.backend()}: a step of autoencoders on 256 × 64 numbers"
    return ratio_table(title, timings, "plain autoencoder")


def table(quick=False, on_turn=None):
    return Group(
        *losses(quick, on_turn),
        steps_on_views(quick, on_turn),
        steps_of_autoencoders(quick, on_turn),
    )
