"""The plane in which a training moved most."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_regularize.analysis.landscape._loss_surface import loss_surface
from keras_regularize.analysis.landscape.directions import flat64


@dataclasses.dataclass(frozen=True, eq=False)
class TrajectoryPlane:
    """What `pca_trajectory` finds.

    Attributes:
        coordinates: Where each set of weights is in the plane, `(steps, 2)`; the last is at 0.
        explained_variance_ratio: The share of the movement along each direction, `(2,)`.
        components: The two directions, of norm 1, as flat vectors `(2, P)`.
        directions: The same, each a list of arrays in the shapes of the weights.
    """

    coordinates: np.ndarray
    explained_variance_ratio: np.ndarray
    components: np.ndarray
    directions: list[list[np.ndarray]]

    def plot(
        self,
        model: Any = None,
        x: Any = None,
        y: Any = None,
        ax: Any = None,
        steps: int = 25,
        margin: float = 0.25,
        log: bool = True,
        **options: Any,
    ) -> Any:
        """Draws the way through the plane, over contours of the loss if a model is given.

        Args:
            model: The model, with the last weights of the trajectory, or `None` for the way alone.
            x: Inputs as in `loss_surface`.
            y: Labels.
            ax: Axes of Matplotlib to draw on; `None` for the current ones.
            steps: Points of the surface along each axis.
            margin: How far the picture reaches beyond the way, as a share of its extent.
            log: Whether contours are spaced logarithmically.
            **options: Further arguments of `loss_surface`.

        Returns:
            The axes.
        """
        import matplotlib.pyplot as plt

        ax = plt.gca() if ax is None else ax
        if model is not None:
            low, high = self.coordinates.min(axis=0), self.coordinates.max(axis=0)
            extent = np.maximum(high - low, 1e-3 * np.max(high - low))
            axes = [
                np.linspace(a - margin * e, b + margin * e, steps)
                for a, b, e in zip(low, high, extent)
            ]
            surface = loss_surface(
                model, x, y, directions=self.directions, coordinates=axes, **options
            )
            surface.plot(ax=ax, log=log)
        ax.plot(*self.coordinates.T, "o-", color="tab:red", markersize=3, linewidth=1)
        ax.plot(0, 0, "*", color="tab:red", markersize=10)
        first, second = self.explained_variance_ratio
        ax.set(
            xlabel=f"first component ({first:.0%} of the movement)",
            ylabel=f"second component ({second:.0%})",
        )
        return ax


def pca_trajectory(trajectory: Sequence[Sequence[Any]]) -> TrajectoryPlane:
    r"""The plane through the last weights of a training in which the weights moved most.

    The principal components of the differences $w_t - w_T$ to the last weights. Two random directions show nothing
    of a training, which moves in few directions that they are orthogonal to. Coordinates are those of the
    differences themselves, so that the last weights are at 0; the largest entry of each component is positive.

    Args:
        trajectory: Sets of weights, each a list of arrays, at least three, as `kr.callbacks.WeightTrajectory`
            collects them.

    Returns:
        A frozen dataclass of `coordinates`, `explained_variance_ratio`, `components` and `directions`, with
        `plot(model, x, y)`, which needs Matplotlib.

    Raises:
        ValueError: If there are fewer than three sets of weights, or their shapes differ.

    Cost: products of all pairs of sets of weights, in memory as large as the trajectory.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = np.random.normal(size=(60, 4)), np.arange(60) % 3
    path = kr.callbacks.WeightTrajectory()
    model.fit(x, y, epochs=5, callbacks=[path], verbose=0)
    plane = kr.analysis.pca_trajectory(path.weights)
    print(plane.explained_variance_ratio)  # plane.plot(model, x, y) draws it.
    ```

    Reference: Hao Li, Zheng Xu, Gavin Taylor, Christoph Studer and Tom Goldstein, *Visualizing the Loss Landscape
    of Neural Nets*, NeurIPS 2018, arXiv:1712.09913.
    """
    sets = [list(weights) for weights in trajectory]
    shapes = [[np.shape(w) for w in weights] for weights in sets]
    if len(sets) < 3 or any(s != shapes[0] for s in shapes):
        raise ValueError(
            "`trajectory` must be at least three sets of weights of the same shapes. Received: "
            f"{len(sets)} sets" + (" of different shapes" if len(sets) >= 3 else "")
        )
    last = flat64(sets[-1])
    rows = np.stack([flat64(weights) - last for weights in sets])
    centred = rows - rows.mean(axis=0)
    # Of the small one of the two products, since there are far more weights than steps.
    values, vectors = np.linalg.eigh(centred @ centred.T)
    total = np.maximum(values, 0.0).sum()
    components = np.zeros((2, rows.shape[1]))
    for i, k in enumerate((-1, -2)):
        component = vectors[:, k] @ centred
        length = np.linalg.norm(component)
        if values[k] > 1e-12 * total and length > 0:
            component /= length
            components[i] = component * np.sign(component[np.argmax(np.abs(component))])
    directions = []
    for component in components:
        parts, start = [], 0
        for shape in shapes[0]:
            size = int(np.prod(shape))
            parts.append(component[start : start + size].reshape(shape))
            start += size
        directions.append(parts)
    return TrajectoryPlane(
        coordinates=rows @ components.T,
        explained_variance_ratio=np.maximum(values[[-1, -2]], 0.0) / (total or 1.0),
        components=components,
        directions=directions,
    )
