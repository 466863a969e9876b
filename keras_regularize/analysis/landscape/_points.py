"""The loss at many points of a plane of weights, by one program."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_regularize.analysis._objective import Objective, mean_of
from keras_regularize.analysis._progress import progress
from keras_regularize.analysis.landscape.directions import random_direction
from keras_regularize.autodiff.compiled_losses import CONTAINERS


def losses_at(
    objective: Objective,
    points: np.ndarray,
    directions: Sequence[Sequence[Any]],
    start: Sequence[Any],
    metrics: Sequence[keras.metrics.Metric] = (),
    name: str = "loss surface",
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """`(losses (N,), {metric: values (N,)})` at points `(N, k)` of the plane `start + Σ c_i directions_i`.

    `start` and the directions are tensors for the weights of the objective, and behind them for its state.
    """
    count = len(objective.weights)

    def move(coordinates, start, directions):
        moved = list(start)
        for i, direction in enumerate(directions):
            for j, part in enumerate(direction):
                if part is not None:
                    moved[j] = moved[j] + ops.cast(coordinates[i], part.dtype) * part
        return moved

    def evaluate(values, states, batch):
        total, outputs = objective.sum_of(values[:count], values[count:], batch)
        if metrics and isinstance(outputs, CONTAINERS):
            raise ValueError(
                "`metrics` are those of a model with one output. Received: a model with "
                f"{len(tree.flatten(outputs))} outputs"
            )
        states = [
            metric.stateless_update_state(state, batch.y, outputs)
            for metric, state in zip(metrics, states)
        ]
        return total, states

    move = objective.program("move", move)
    evaluate = objective.program("evaluate", evaluate)
    kept = [*objective.batches()] if objective.samples.in_memory else None
    fresh = [[ops.zeros_like(v.value) + v.value for v in m.variables] for m in metrics]
    losses, measured = [], []
    for point in progress(points, name, len(points)):
        values = move(ops.convert_to_tensor(point.astype(objective.dtype)), list(start), directions)
        states, sums, size = fresh, [], 0
        for batch, rows in kept or objective.batches():
            total, states = evaluate(values, states, batch)
            sums.append(total)
            size += rows
        losses.append(mean_of(sums, size))
        results = [m.stateless_result(state) for m, state in zip(metrics, states)]
        measured.append([float(ops.convert_to_numpy(ops.stop_gradient(r))) for r in results])
    columns = np.array(measured).T
    return np.array(losses), {m.name: column for m, column in zip(metrics, columns)}


def check_metrics(metrics: Any) -> list[keras.metrics.Metric]:
    """A list of metrics of Keras, with names of their own."""
    found = list(metrics or ())
    if not all(isinstance(metric, keras.metrics.Metric) for metric in found):
        raise ValueError(
            "`metrics` must be a list of `keras.metrics.Metric`, such as "
            f"`keras.metrics.SparseCategoricalAccuracy()`. Received: metrics={metrics!r}"
        )
    for metric in found:
        metric.reset_state()
    return found


def grid_of(coordinates: Any, span: Any, steps: Any, dimensions: int) -> list[np.ndarray]:
    """Coordinates along each axis: those given, or `steps` numbers (or one for each axis) within the span."""
    if coordinates is None:
        counts = list(steps) if isinstance(steps, (tuple, list)) else [steps] * dimensions
        if len(counts) != dimensions or any(int(c) != c or c < 1 for c in counts):
            raise ValueError(
                f"`steps` must be a positive integer, or {dimensions} of them. Received: steps={steps!r}"
            )
        low, high = span
        # The middle of an odd number of points is the model itself, without rounding.
        return [
            (low + high) / 2 + (high - low) / 2 * np.linspace(-1, 1, int(c))
            if c > 1
            else np.array([low])
            for c in counts
        ]
    axes = [
        np.asarray(ops.convert_to_numpy(c) if ops.is_tensor(c) else c, "float64")
        for c in coordinates
    ]
    if len(axes) != dimensions or any(axis.ndim != 1 or not axis.size for axis in axes):
        raise ValueError(
            f"`coordinates` must be {dimensions} vectors, one for each direction. Received shapes "
            f"{[axis.shape for axis in axes]}"
        )
    return axes


def points_of(axes: Sequence[np.ndarray]) -> np.ndarray:
    """All points of a grid, `(N, k)`."""
    return np.stack([part.ravel() for part in np.meshgrid(*axes, indexing="ij")], axis=-1)


def directions_of(
    objective: Objective, directions: Any, dimensions: int, norm: str | None, seed: int | None
) -> list[list[np.ndarray]]:
    """Directions that were given, checked, or random ones."""
    if directions is None:
        random = np.random.default_rng(seed)
        seeds = random.integers(0, 2**31, size=dimensions)
        return [random_direction(objective.model, norm, seed=int(s)) for s in seeds]
    if not isinstance(directions, (list, tuple)) or not 1 <= len(directions) <= 2:
        raise ValueError(
            "`directions` must be a list of one or two directions, each a list of arrays. Received: "
            f"{type(directions).__name__} of {len(directions)}"
        )
    flats = [objective.checked("directions", direction) for direction in directions]
    return [objective.unflat(vector, tensors=False) for vector in flats]
