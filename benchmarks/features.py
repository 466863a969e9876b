"""What penalties on features of a batch cost, value and gradient, beside the squared distances of its pairs."""

import keras
import numpy as np

import keras_regularize as kr
from benchmarks.regularizers import contestant
from benchmarks.timing import race, ratio_table
from keras_regularize.numerics import squared_distances

SHAPE = (256, 512)
BASELINE = "squared distances"
BARS = {"TREG": 2.0}


def table(quick=False, on_turn=None):
    values = np.random.default_rng(0).normal(size=SHAPE).astype("float32")
    features = keras.ops.convert_to_tensor(values)
    penalties = {
        BASELINE: lambda z: keras.ops.mean(squared_distances(z, z)),
        **{
            f"Dispersive, {variant}": kr.regularizers.Dispersive(variant=variant)
            for variant in ("l2", "cosine", "hinge", "covariance")
        },
        "KoLeo": kr.regularizers.KoLeo(),
        "LDReg": kr.regularizers.LDReg(),
        "TREG": kr.regularizers.TREG(),
        "Uniformity": kr.regularizers.Uniformity(),
    }
    runs = {name: contestant(penalty, features) for name, penalty in penalties.items()}
    timings = race(runs, 9 if quick else 51, on_turn=on_turn)
    title = f"{keras.backend.backend()}: penalties on features {SHAPE}, value and gradient"
    return ratio_table(title, timings, BASELINE, bars=BARS)
