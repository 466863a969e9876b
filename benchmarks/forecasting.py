"""What losses of forecasts cost, forward and backward, beside Keras' own and beside soft-DTW of other packages.

The other packages run on all cores by Numba: `NUMBA_NUM_THREADS=1 OMP_NUM_THREADS=1` compares one core with one.
"""

import importlib.util

import keras
import numpy as np
from rich.console import Group
from rich.text import Text

import keras_regularize as kr
from benchmarks.losses import contestant
from benchmarks.timing import race, ratio_table

SERIES = (32, 128)
FORECASTS = (4096, 24)
BARS = {"SoftDTW": 1.0}


def peers():
    """`{name: soft-DTW loss of another package}`, of those installed."""
    found = {}
    if importlib.util.find_spec("tslearn") is not None:
        from tslearn.metrics import SoftDTWLossPyTorch

        found["tslearn SoftDTWLossPyTorch"] = SoftDTWLossPyTorch(gamma=1.0)
    if importlib.util.find_spec("pysdtw") is not None:
        import pysdtw

        found["pysdtw SoftDTW"] = pysdtw.SoftDTW(gamma=1.0, use_cuda=False)
    return found


def alignments(rounds, on_turn):
    if keras.backend.backend() != "torch" or not peers():
        return Text(
            "Soft-DTW, not measured: needs PyTorch and `pip install tslearn numba`, or pysdtw.",
            style="dim",
        )
    import torch

    rng = np.random.default_rng(0)
    y, p = map(keras.ops.convert_to_tensor, rng.normal(size=(2, *SERIES)).astype("float32"))

    def other(loss):
        @torch.enable_grad()
        def run():
            x = p[..., None].clone().requires_grad_()
            loss(x, y[..., None]).mean().backward()

        return run

    runs = {name: other(loss) for name, loss in peers().items()}
    baseline = next(iter(runs))
    runs["SoftDTW"] = contestant(kr.losses.SoftDTW(), y, p)
    runs["DILATE"] = contestant(kr.losses.DILATE(), y, p)
    timings = race(runs, rounds, warmups=2, on_turn=on_turn)
    return ratio_table(f"torch: series {SERIES}", timings, baseline, bars=BARS)


def point_losses(rounds, on_turn):
    rng = np.random.default_rng(0)
    y, p = map(keras.ops.convert_to_tensor, rng.normal(size=(2, *FORECASTS)).astype("float32"))
    wide = keras.ops.convert_to_tensor(rng.normal(size=(*FORECASTS, 3)).astype("float32"))
    losses = kr.losses
    runs = {
        "keras MeanAbsoluteError": contestant(keras.losses.MeanAbsoluteError(), y, p),
        "keras MeanSquaredError": contestant(keras.losses.MeanSquaredError(), y, p),
        "keras Huber": contestant(keras.losses.Huber(), y, p),
        "Quantile": contestant(losses.Quantile(), y, p),
        "Quantile, three": contestant(losses.Quantile([0.1, 0.5, 0.9]), y, wide),
    }
    for name in (
        "PseudoHuber",
        "RootMeanSquaredError",
        "RelativeSquaredError",
        "RelativeAbsoluteError",
        "SymmetricMeanAbsolutePercentageError",
        "BalancedL1",
        "BerHu",
        "Wing",
    ):
        runs[name] = contestant(getattr(losses, name)(), y, p)
    timings = race(runs, 5 * rounds, repeats=5, warmups=2, on_turn=on_turn)
    title = f"{keras.backend.backend()}: losses, forward and backward, forecasts {FORECASTS}"
    return ratio_table(title, timings, "keras MeanAbsoluteError")


def table(quick=False, on_turn=None):
    rounds = 5 if quick else 25
    return Group(alignments(rounds, on_turn), point_losses(rounds, on_turn))
