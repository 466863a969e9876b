"""What recalibration of a regressor and weights for a shifted target take, once it is trained: NumPy's time."""

import numpy as np
from rich.console import Group

import keras_regularize as kr
from benchmarks.timing import race, ratio_table

TARGETS = 2000
SAMPLES = 500


def maps(rounds, on_turn):
    """Maps of calibration, each learnt from some targets and asked for quantiles of as many."""
    rng = np.random.default_rng(0)
    y, levels = rng.normal(size=TARGETS), [0.05, 0.95]
    predicted, quantiles = (np.tile(row, (TARGETS, 1)) for row in ([0.0, -1.0], [-0.5, 0.5]))

    def conformal():
        kr.analysis.ConformalQuantiles(levels).fit(y, quantiles).quantile(quantiles)

    runs = {"ConformalQuantiles": conformal}
    for method in ("linear", "empirical", "kde"):
        recalibration = kr.analysis.QuantileRecalibration(method)
        runs[f'QuantileRecalibration("{method}")'] = fitted(recalibration, y, predicted, levels)
    timings = race(runs, rounds, warmups=1, on_turn=on_turn)
    title = f"Maps of calibration of {TARGETS} targets, fit and two quantiles each"
    return ratio_table(title, timings, "ConformalQuantiles")


def fitted(recalibration, y, predicted, levels):
    def run():
        recalibration.fit(y, predicted).quantile(predicted, levels)

    return run


def shifts(rounds, on_turn):
    """Weights of a source sample, beside the linear system of its size that any kernel method solves."""
    rng = np.random.default_rng(0)
    y = rng.normal(size=SAMPLES)
    x, target = y + rng.normal(size=SAMPLES), 0.7 + 1.2 * rng.normal(size=SAMPLES)
    matrix = rng.normal(size=(SAMPLES, SAMPLES)) + SAMPLES * np.eye(SAMPLES)

    def solve():
        np.linalg.solve(matrix, y)

    def weights():
        kr.analysis.target_shift_weights(y, x, target, regularization=0.1)

    def chosen():
        kr.analysis.TargetShift().fit(y, x, target)

    runs = {"one solve": solve, "target_shift_weights": weights, 'TargetShift("auto")': chosen}
    timings = race(runs, rounds, warmups=1, on_turn=on_turn)
    return ratio_table(f"Weights of {SAMPLES} samples of a source", timings, "one solve")


def table(quick=False, on_turn=None):
    rounds = 3 if quick else 15
    return Group(maps(rounds, on_turn), shifts(rounds, on_turn))
