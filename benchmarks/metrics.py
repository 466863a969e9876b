"""What an update of a metric costs, relative to Keras' accuracy and to torchmetrics where that is installed."""

import functools
import importlib.util

import keras
import numpy as np
from rich.console import Group
from rich.text import Text

import keras_regularize as kr
from benchmarks.timing import race, ratio_table

SHAPES = {(1024, 100): 1.2, (128, 10): 2.0}
OURS = "ExpectedCalibrationError"


def contestants(shape):
    """Functions that update a metric once with probabilities and labels."""
    generator = np.random.default_rng(0)
    p = keras.ops.softmax(generator.normal(size=shape).astype("float32"))
    y = keras.ops.convert_to_tensor(generator.integers(0, shape[1], shape[0]))
    accuracy = keras.metrics.SparseCategoricalAccuracy()
    ours = [kr.metrics.ExpectedCalibrationError(), kr.metrics.BrierScore(), kr.metrics.AURC()]

    def run(metric):
        metric.update_state(y, p)
        keras.ops.convert_to_numpy(metric.variables[0])  # Waits.

    found = {
        "keras SparseCategoricalAccuracy": lambda: run(accuracy),
        **{type(metric).__name__: functools.partial(run, metric) for metric in ours},
    }
    if _has_peer():
        from torchmetrics.classification import MulticlassCalibrationError

        peer = MulticlassCalibrationError(shape[1], n_bins=15)

        def run_peer():
            peer.update(p, y)
            if len(peer.confidences) > 500:  # It keeps every batch.
                peer.reset()

        found = {"torchmetrics MulticlassCalibrationError": run_peer, **found}
    return found


def _has_peer():
    return (
        keras.backend.backend() == "torch" and importlib.util.find_spec("torchmetrics") is not None
    )


def table(quick=False, on_turn=None):
    parts = []
    for shape, bar in SHAPES.items():
        timings = race(contestants(shape), 50 if quick else 1000, warmups=2, on_turn=None)
        title = f"{keras.backend.backend()}: one update, eager, predictions {shape}"
        bars = {OURS: bar} if _has_peer() else {}
        parts.append(ratio_table(title, timings, next(iter(timings)), bars=bars))
    if not _has_peer():
        parts.append(
            Text(
                "Bars are relative to torchmetrics on PyTorch, which is not installed.", style="dim"
            )
        )
    return Group(*parts)
