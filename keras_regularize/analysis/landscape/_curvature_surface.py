"""The curvature over a plane through the weights."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_regularize.analysis._objective import Objective, flat
from keras_regularize.analysis._progress import progress
from keras_regularize.analysis.curvature._lanczos import lanczos
from keras_regularize.analysis.landscape._loss_surface import draw
from keras_regularize.analysis.landscape._points import directions_of, grid_of, points_of
from keras_regularize.analysis.landscape.directions import filter_axes
from keras_regularize.validation import check_integer


@dataclasses.dataclass(frozen=True, eq=False)
class CurvatureSurface:
    """What `curvature_surface` computes.

    Attributes:
        coordinates: Coordinates along each direction, a tuple of one or two vectors.
        smallest: Smallest eigenvalues of the Hessian, as `loss` of a `LossSurface` is laid out.
        largest: Largest eigenvalues.
        directions: The directions, each a list of arrays in the shapes of `model.trainable_variables`.
    """

    coordinates: tuple[np.ndarray, ...]
    smallest: np.ndarray
    largest: np.ndarray
    directions: list[list[np.ndarray]]

    @property
    def ratio(self) -> np.ndarray:
        """`|smallest / largest|`: near 0 where the loss curves upwards in nearly all directions."""
        largest = np.abs(self.largest)
        return np.abs(self.smallest) / np.where(largest > 0, largest, np.inf)

    def plot(self, ax: Any = None) -> Any:
        """Draws the ratio, as a heat map or a line.

        Args:
            ax: Axes of Matplotlib to draw on; `None` for the current ones.

        Returns:
            The axes.
        """
        kind = "heatmap" if len(self.coordinates) == 2 else "line"
        return draw(ax, self.coordinates, self.ratio, kind, None, False, "|smallest / largest|")


def curvature_surface(
    model: keras.Model,
    x: Any,
    y: Any = None,
    directions: Sequence[Sequence[Any]] | None = None,
    coordinates: Any = None,
    span: tuple[float, float] = (-1.0, 1.0),
    steps: int | tuple[int, int] = 11,
    dimensions: int = 2,
    norm: str | None = "filter",
    max_iterations: int = 20,
    include_vectors: bool = False,
    seed: int | None = None,
    *,
    sample_weight: Any = None,
    loss: Any = None,
    batch_size: int = 32,
    include_regularization: bool = False,
) -> CurvatureSurface:
    r"""How convex the loss is over a plane, or a line, through a model's weights.

    At each point of the grid the smallest and largest eigenvalue of the Hessian, from one Lanczos iteration. A
    plane through many dimensions may look convex where the loss is not: the ratio
    $|\lambda_{\min} / \lambda_{\max}|$ says, near 0, that it hides little.

    Args:
        model: A built model, or a wrapper of one; it runs in inference mode and is not changed.
        x: Inputs as arrays, in any nested structure the model takes, or a dataset of batches as `fit` takes them.
        y: Labels as the loss takes them; `None` with a dataset.
        directions: As in `kr.analysis.loss_surface`.
        coordinates: As there.
        span: As there.
        steps: As there.
        dimensions: As there.
        norm: As there.
        max_iterations: Lanczos steps per point, at least 1.
        include_vectors: Whether biases, and scales and shifts of normalization, are among the weights of that
            Hessian; in the authors' code they are not.
        seed: Seed of random directions and of the starting vector.
        sample_weight: Weights of samples, or `None`; also the third entry of a dataset's batches.
        loss: A loss of Keras, or a name or function of one with a value per sample; by default the compiled one.
        batch_size: Samples at once where `x` is arrays; it changes time and memory only, but where a loss takes
            the samples of a batch together, as the mean over unmasked positions does in `evaluate`.
        include_regularization: Whether the model's penalties of weights and activities are part of the loss.

    Returns:
        A frozen dataclass of `coordinates`, `smallest`, `largest`, `ratio` and `directions`, with `plot(ax=None)`,
        which needs Matplotlib.

    Raises:
        ValueError: If an argument is out of range, shapes do not fit, the model is not built, there is no loss or
            no sample, or derivatives are not finite.

    Cost: `max_iterations` Hessian-vector products per point.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = np.random.normal(size=(60, 4)), np.arange(60) % 3
    surface = kr.analysis.curvature_surface(model, x, y, steps=3, max_iterations=10, seed=0)
    print(surface.ratio)  # surface.plot() draws it.
    ```

    Reference: Hao Li, Zheng Xu, Gavin Taylor, Christoph Studer and Tom Goldstein, *Visualizing the Loss Landscape
    of Neural Nets*, NeurIPS 2018, arXiv:1712.09913.
    """
    check_integer("dimensions", dimensions, minimum=1, maximum=2)
    check_integer("max_iterations", max_iterations, minimum=1)
    objective = Objective(
        "curvature_surface",
        model,
        x,
        y,
        sample_weight,
        loss,
        batch_size,
        include_regularization,
    )
    found = directions_of(objective, directions, dimensions, norm, seed)
    axes = grid_of(coordinates, span, steps, len(found))
    center = flat(objective.weights)
    plane = np.stack([flat(direction) for direction in found])
    kept = np.concatenate(
        [
            np.full(int(np.prod(v.shape)), include_vectors or filter_axes(None, v) is not None)
            for v in model.trainable_variables
        ]
    )
    random = np.random.default_rng(seed)
    start = random.normal(size=center.size).astype(objective.dtype) * kept
    ends = []
    points = points_of(axes)
    for point in progress(points, "curvature surface", len(points)):
        objective.move_to(objective.unflat((center + point @ plane).astype(objective.dtype)))
        krylov = lanczos(
            lambda v: kept * objective.hessian_product(v), start, max_iterations, random
        )
        values = krylov.eigh()[0]
        ends.append((values[0], values[-1]))
    shape = tuple(len(axis) for axis in axes)
    smallest, largest = np.array(ends).T
    return CurvatureSurface(tuple(axes), smallest.reshape(shape), largest.reshape(shape), found)
