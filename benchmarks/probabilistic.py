"""What losses of predicted distributions cost, forward and backward, beside plain PyTorch on the same outputs."""

import keras
import numpy as np
from rich.console import Group
from rich.text import Text

import keras_regularize as kr
from benchmarks.losses import contestant
from benchmarks.timing import race, ratio_table

SIZE = 65_536
MEMBERS = (4096, 50)
BAR = 1.2


def gaussian():
    """`torch.nn.GaussianNLLLoss` of the same two outputs."""
    import torch

    loss = torch.nn.GaussianNLLLoss(full=True, eps=1e-12)

    def run(y, outputs):
        scale = torch.nn.functional.softplus(outputs[:, 1]) + 1e-6
        return loss(outputs[:, 0], y, scale * scale)

    return run


def pairwise(y, members):
    """The score of an ensemble with an array of all pairs of its members."""
    near = (members - y[:, None]).abs().mean(dim=-1)
    gaps = (members[:, :, None] - members[:, None, :]).abs()
    return (near - 0.5 * gaps.mean(dim=(-2, -1))).mean()


def table(quick=False, on_turn=None):
    if keras.backend.backend() != "torch":
        return Text("Losses of distributions, not measured: needs PyTorch.", style="dim")
    tables, generator = [], np.random.default_rng(0)
    rounds = 5 if quick else 25

    def tensor(*shape):
        return keras.ops.convert_to_tensor(generator.normal(size=shape).astype("float32"))

    rows = {
        "GaussianNegativeLogLikelihood": (
            gaussian(),
            kr.losses.GaussianNegativeLogLikelihood(),
            (SIZE, 2),
        ),
        "EnsembleCRPS": (pairwise, kr.losses.EnsembleCRPS(), MEMBERS),
    }
    for name, (theirs, ours, shape) in rows.items():
        y, outputs = tensor(shape[0]), tensor(*shape)
        runs = {"torch": contestant(theirs, y, outputs), name: contestant(ours, y, outputs)}
        timings = race(runs, rounds, repeats=3, warmups=2, on_turn=on_turn)
        title = f"torch: {name} beside the obvious code, {shape}"
        tables.append(ratio_table(title, timings, "torch", bars={name: BAR}))
    y, outputs = tensor(4096), tensor(4096, 2)
    likelihood, penalty = (
        kr.losses.GaussianNegativeLogLikelihood(),
        kr.losses.ProbabilisticCalibration,
    )
    runs = {"GaussianNegativeLogLikelihood": contestant(likelihood, y, outputs)}
    for method in ("kde", "sort", "entropy"):
        runs[f'ProbabilisticCalibration("{method}")'] = contestant(penalty(method), y, outputs)
    timings = race(runs, rounds, repeats=3, warmups=2, on_turn=on_turn)
    title = "torch: the penalty beside the likelihood, batches of 4096"
    tables.append(ratio_table(title, timings, "GaussianNegativeLogLikelihood"))
    return Group(*tables)
