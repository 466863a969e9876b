"""The loss over a line or plane through the weights."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_regularize.analysis._objective import Objective, flat
from keras_regularize.analysis.landscape._points import (
    check_metrics,
    directions_of,
    grid_of,
    losses_at,
    points_of,
)
from keras_regularize.validation import check_choice, check_integer


@dataclasses.dataclass(frozen=True, eq=False)
class LossSurface:
    """The loss over a line or plane of weights, which can be saved, loaded and drawn.

    `loss_surface` computes it.

    Attributes:
        coordinates: Coordinates along each direction, a tuple of one or two vectors.
        loss: Mean losses; `loss[i, j]` is that at `coordinates[0][i]` and `coordinates[1][j]`.
        metrics: Metrics by name, arrays like `loss`.
        directions: The directions, each a list of arrays in the shapes of `model.trainable_variables`.

    Example:

    ```python
    import pathlib, tempfile
    import numpy as np
    import keras_regularize as kr

    axis = np.linspace(-1, 1, 5)
    loss = axis[:, None] ** 2 + axis**2
    surface = kr.analysis.LossSurface((axis, axis), loss, {}, [[np.ones(2)], [np.ones(2)]])
    path = pathlib.Path(tempfile.mkdtemp()) / "surface.npz"
    surface.save(path)
    surface = kr.analysis.LossSurface.load(path)  # surface.plot() draws it.
    ```

    Reference: Hao Li, Zheng Xu, Gavin Taylor, Christoph Studer and Tom Goldstein, *Visualizing the Loss Landscape
    of Neural Nets*, NeurIPS 2018, arXiv:1712.09913.
    """

    coordinates: tuple[np.ndarray, ...]
    loss: np.ndarray
    metrics: Mapping[str, np.ndarray]
    directions: list[list[np.ndarray]]

    def plot(
        self,
        ax: Any = None,
        kind: str | None = None,
        levels: Any = None,
        log: bool = False,
        metric: str | None = None,
    ) -> Any:
        """Draws the surface.

        Args:
            ax: Axes of Matplotlib to draw on, with `projection="3d"` for `"surface"`; `None` for the current ones.
            kind: `"contour"` (lines with their losses), `"filled"`, `"surface"` or `"heatmap"` of a plane,
                `"line"` of a line; by default lines.
            levels: Levels of the contours; by default twenty over what is drawn.
            log: Whether the scale is logarithmic.
            metric: Name of the metric to draw in the place of the loss.

        Returns:
            The axes.
        """
        if metric is not None:
            check_choice("metric", metric, tuple(self.metrics))
        values = self.loss if metric is None else self.metrics[metric]
        return draw(ax, self.coordinates, values, kind, levels, log, metric or "loss")

    def save(self, path: str | os.PathLike) -> None:
        """Writes the surface into a file of NumPy, `.npz`."""
        arrays: dict[str, Any] = {"loss": self.loss, "parts": [len(d) for d in self.directions]}
        arrays |= {f"coordinates_{i}": axis for i, axis in enumerate(self.coordinates)}
        arrays |= {f"metric_{name}": values for name, values in self.metrics.items()}
        for i, direction in enumerate(self.directions):
            arrays |= {f"direction_{i}_{j}": part for j, part in enumerate(direction)}
        with open(path, "wb") as file:  # NumPy would add an ending of its own.
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "LossSurface":
        """Reads what `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            parts = file["parts"]
            return cls(
                coordinates=tuple(file[f"coordinates_{i}"] for i in range(len(parts))),
                loss=file["loss"],
                metrics={
                    key.removeprefix("metric_"): file[key]
                    for key in file
                    if key.startswith("metric_")
                },
                directions=[
                    [file[f"direction_{i}_{j}"] for j in range(count)]
                    for i, count in enumerate(parts)
                ],
            )


def draw(ax, coordinates, values, kind, levels, log, label):
    """Values over one or two axes; what is not finite is left out."""
    import matplotlib.pyplot as plt
    from matplotlib import colors

    plane = len(coordinates) == 2
    kinds = ("contour", "filled", "surface", "heatmap") if plane else ("line",)
    kind = check_choice("kind", kind or kinds[0], kinds)
    if ax is None:
        ax = plt.gcf().add_subplot(projection="3d") if kind == "surface" else plt.gca()
    shows = np.isfinite(values) & ((values > 0) | (not log))
    if not shows.any():
        raise ValueError(
            f"There is nothing to draw: no {label} is finite{' and positive' * log}. "
            f"Received: {values.size} values"
        )
    values = np.where(shows, values, np.nan)
    if not plane:
        ax.plot(coordinates[0], values)
        ax.set(xlabel="distance along the direction", ylabel=label)
        if log:
            ax.set_yscale("log")
        return ax
    first, second = coordinates
    low, high = np.nanmin(values), np.nanmax(values)
    if levels is None:
        tiny = max(low, high * 1e-6)
        levels = np.geomspace(tiny, high, 20) if log else np.linspace(low, high, 20)
        levels = levels if high > low else None
    shown = values.T  # Matplotlib has the first axis upwards.
    norm = colors.LogNorm() if log else None
    if kind == "surface":
        grid = np.meshgrid(first, second)
        shown = np.log10(shown) if log else shown
        ax.plot_surface(
            *grid,
            shown,
            cmap="viridis",
            rstride=1,
            cstride=1,
            linewidth=0.1,
            edgecolor=(0, 0, 0, 0.25),
        )
        ax.set_zlabel(f"log10 {label}" if log else label)
    elif kind == "heatmap":
        mesh = ax.pcolormesh(first, second, shown, cmap="viridis", norm=norm, shading="nearest")
        ax.figure.colorbar(mesh, ax=ax, label=label)
    elif kind == "filled":
        areas = ax.contourf(first, second, shown, levels=levels, cmap="viridis", norm=norm)
        ax.figure.colorbar(areas, ax=ax, label=label)
    else:
        lines = ax.contour(
            first, second, shown, levels=levels, cmap="viridis", norm=norm, linewidths=1
        )
        ax.clabel(lines, lines.levels[::2], fontsize=7, fmt=_number)
    ax.set(xlabel="first direction", ylabel="second direction")
    return ax


def _number(value):
    return f"{value:.0f}" if abs(value) >= 10 else f"{value:.2g}"


def loss_surface(
    model: keras.Model,
    x: Any,
    y: Any = None,
    directions: Sequence[Sequence[Any]] | None = None,
    coordinates: Any = None,
    span: tuple[float, float] = (-1.0, 1.0),
    steps: int | tuple[int, int] = 51,
    dimensions: int = 2,
    metrics: Sequence[keras.metrics.Metric] | None = None,
    norm: str | None = "filter",
    seed: int | None = None,
    *,
    sample_weight: Any = None,
    loss: Any = None,
    batch_size: int = 32,
    include_regularization: bool = False,
) -> LossSurface:
    r"""The mean loss of a model over a plane, or a line, through its weights.

    $$L(w + a\, d_1 + b\, d_2)$$

    for $a$ and $b$ on a grid. Random directions are scaled to the weights filter by filter
    (`kr.analysis.random_direction`), without which widths of valleys of different networks cannot be compared, and
    are nearly orthogonal. Far out losses may overflow; they are infinite there and left out of pictures.

    Args:
        model: A built model, or a wrapper of one; it runs in inference mode and is not changed.
        x: Inputs as arrays, in any nested structure the model takes, or a dataset of batches as `fit` takes them.
        y: Labels as the loss takes them; `None` with a dataset.
        directions: One or two directions, each a list of arrays in the shapes of `model.trainable_variables`;
            random ones by default.
        coordinates: A vector of coordinates for each direction; by default `steps` of them within `span`.
        span: Smallest and largest coordinate.
        steps: Number of coordinates, or one for each direction.
        dimensions: 1 or 2, where directions are random.
        metrics: Metrics of Keras to compute as well, of a model with one output; as in `evaluate`, without sample
            weights.
        norm: As in `kr.analysis.normalize_direction`, of random directions.
        seed: Seed of random directions.
        sample_weight: Weights of samples, or `None`; also the third entry of a dataset's batches.
        loss: A loss of Keras, or a name or function of one with a value per sample; by default the compiled one.
        batch_size: Samples at once where `x` is arrays; it changes time and memory only, but where a loss takes
            the samples of a batch together, as the mean over unmasked positions does in `evaluate`.
        include_regularization: Whether the model's penalties of weights and activities are part of the loss.

    Returns:
        A frozen dataclass of `coordinates`, `loss`, `metrics` and `directions`, with `save(path)` and `load(path)`
        and `plot(ax=None, kind=None, levels=None, log=False, metric=None)`, which needs Matplotlib: contours,
        filled contours, a surface or a heat map.

    Raises:
        ValueError: If an argument is out of range, shapes do not fit, the model is not built, or there is no loss
            or no sample.

    Cost: a forward pass over the data per point of the grid.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = np.random.normal(size=(60, 4)), np.arange(60) % 3
    surface = kr.analysis.loss_surface(model, x, y, steps=11, seed=0)
    print(surface.loss.shape, surface.loss.min())  # surface.plot(kind="surface") draws it.
    ```

    Reference: Hao Li, Zheng Xu, Gavin Taylor, Christoph Studer and Tom Goldstein, *Visualizing the Loss Landscape
    of Neural Nets*, NeurIPS 2018, arXiv:1712.09913.
    """
    check_integer("dimensions", dimensions, minimum=1, maximum=2)
    measured_too = check_metrics(metrics)
    objective = Objective(
        "loss_surface",
        model,
        x,
        y,
        sample_weight,
        loss,
        batch_size,
        include_regularization,
        fill=not measured_too,  # Metrics would see rows that fill a batch up.
    )
    found = directions_of(objective, directions, dimensions, norm, seed)
    axes = grid_of(coordinates, span, steps, len(found))
    losses, measured = losses_at(
        objective,
        points_of(axes),
        [[*objective.unflat(flat(d)), *(None for _ in objective.state)] for d in found],
        [*objective.weights, *objective.state],
        measured_too,
    )
    shape = tuple(len(axis) for axis in axes)
    return LossSurface(
        tuple(axes),
        losses.reshape(shape),
        {name: values.reshape(shape) for name, values in measured.items()},
        found,
    )
