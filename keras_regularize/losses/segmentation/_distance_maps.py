"""Maps of distances to the boundaries of masks, in a graph or in a data pipeline."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_regularize.ops.distances import distances_of_arrays
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_integer

KINDS = ("signed", "unsigned", "region_wise", "penalty")


def maps(xp, transform, inside, kind):
    """Maps of masks `inside (batch, classes, *spatial)` by the functions of NumPy or of `keras.ops`, `xp`."""

    def largest(x):
        return xp.max(x, axis=tuple(range(2, len(x.shape))), keepdims=True, initial=0.0)

    def divided(x, y):
        return x / xp.where(y > 0, y, 1.0)

    # Both are 0 if all or nothing is inside.
    depth, distance = transform(inside), transform(xp.logical_not(inside))
    if kind == "unsigned":
        return depth + distance
    deepest = largest(depth)
    if kind == "signed":
        return xp.where(deepest > 0, xp.where(inside, 1.0 - depth, distance), 0.0)
    if kind == "region_wise":
        filled = xp.where(deepest > 0, -divided(depth, deepest), -1.0)
        return xp.where(inside, filled, 1.0)
    near = xp.where(inside, deepest - depth, 0.0)
    near_outside = xp.where(inside, 0.0, largest(distance) - distance)
    return divided(near, largest(near)) + divided(near_outside, largest(near_outside))


@export
def distance_maps(
    y_true: Any, num_classes: int, kind: str = "signed", sampling: Sequence[float] | None = None
) -> Any:
    r"""One-hot targets and maps of distances for the losses of boundaries, made in the data pipeline.

    With the distances $d_{in}$ of pixels of the object to the background and $d_{out}$ of others to the object,
    the maps of each class are

    | kind | map | for |
    |---|---|---|
    | `"signed"` | $1 - d_{in}$ inside, $d_{out}$ outside | `losses.Boundary` |
    | `"unsigned"` | $d_{in} + d_{out}$ | `losses.HausdorffDistance` |
    | `"region_wise"` | $-d_{in} / \max d_{in}$ inside, 1 outside | `losses.RegionWise` |
    | `"penalty"` | 1 next to the boundary, falling to 0 at the deepest pixel of either side |
    `losses.DistanceMapCrossentropy` |

    All are 0 if the object is empty or everything, but for `"region_wise"`, which is then 1 or -1. `"penalty"`
    is of all classes but the first together. NumPy and SciPy do the work, in any worker: `dataset.map(lambda x,
    y: (x, tf.numpy_function(…)))`, a `DataLoader` or Grain.

    Args:
        y_true: Class ids `(batch, *spatial)` or `(batch, *spatial, 1)`, or rows `(batch, *spatial,
            num_classes)`, of which more than ½ is inside.
        num_classes: Number of classes; 1 for masks of 0 and 1.
        kind: One of the above.
        sampling: Size of a pixel along each axis of space, or `None` for 1.

    Returns:
        Array `(batch, *spatial, 2 · num_classes)` in float32: the targets, then the maps.

    Raises:
        ValueError: If an argument is none of these, the shapes do not fit, or an id is no class.
        ImportError: Without SciPy.

    Cost: two distance transforms per image and class.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    y_true = np.random.randint(0, 3, size=(2, 16, 16))
    targets = kr.losses.distance_maps(y_true, num_classes=3)  # (2, 16, 16, 6)
    kr.losses.Boundary(from_logits=True)(targets, np.random.normal(size=(2, 16, 16, 3)))
    ```

    Reference: Hoel Kervadec and others, *Boundary loss for highly unbalanced segmentation*, Medical Image
    Analysis 2021, arXiv:1812.07032.
    """
    num_classes = check_integer("num_classes", num_classes, 1)
    check_choice("kind", kind, KINDS)
    targets = _targets(np.asarray(y_true), num_classes)
    inside = np.moveaxis(targets > 0.5, -1, 1)
    if kind == "penalty" and num_classes > 1:
        inside = inside[:, 1:].any(axis=1, keepdims=True)

    def transform(masks):
        flat = masks.reshape(-1, *masks.shape[2:])
        return distances_of_arrays(flat, sampling).reshape(masks.shape)

    found = np.moveaxis(maps(np, transform, inside, kind), 1, -1)
    return np.concatenate(
        [targets, np.broadcast_to(found, targets.shape)], axis=-1, dtype="float32"
    )


def _targets(y_true, num_classes):
    """One-hot or soft rows `(batch, *spatial, num_classes)` of an array."""
    if y_true.ndim > 2 and y_true.shape[-1] == num_classes:
        return y_true
    if y_true.ndim > 2 and y_true.shape[-1] == 1:
        y_true = y_true[..., 0]
    targets = y_true[..., None] == (np.arange(num_classes) if num_classes > 1 else np.ones(1))
    background = (num_classes == 1) & (y_true == 0)
    if y_true.ndim < 2 or not (targets.any(axis=-1) | background).all():
        raise ValueError(
            f"Expected class ids (batch, *spatial) below {max(num_classes, 2)}, or rows (batch, *spatial, "
            f"{num_classes}). Received: y_true of shape {y_true.shape} with values from "
            f"{y_true.min(initial=0)} to {y_true.max(initial=0)}"
        )
    return targets
