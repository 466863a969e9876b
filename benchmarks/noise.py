"""What layers of noise cost, forward and backward, beside Keras' own on the same maps of features."""

import keras
import numpy as np
from keras import layers, ops

import keras_regularize as kr
from benchmarks.losses import contestant
from benchmarks.timing import race, ratio_table

SHAPE = (32, 32, 32, 16)


def table(quick=False, on_turn=None):
    x = np.random.default_rng(0).normal(size=SHAPE).astype("float32")
    x = ops.convert_to_tensor(x)

    def run(layer):
        return contestant(lambda _, z: ops.sum(layer(z, training=True)), x, x)

    runs = {
        "keras Dropout": run(layers.Dropout(0.1)),
        "keras SpatialDropout2D": run(layers.SpatialDropout2D(0.1)),
        "keras GaussianNoise": run(layers.GaussianNoise(0.1)),
        "DropPath": run(kr.layers.DropPath(0.1)),
        "DropBlock": run(kr.layers.DropBlock(7, 0.1)),
        "Cutout": run(kr.layers.Cutout(8)),
    }
    timings = race(runs, 5 if quick else 25, repeats=3, warmups=2, on_turn=on_turn)
    title = f"{keras.backend.backend()}: layers of noise, forward and backward, {SHAPE}"
    return ratio_table(title, timings, "keras Dropout")
