"""Directions in the space of a model's weights."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_regularize.utils.variables import all_owners
from keras_regularize.validation import check_choice

NORMS = ("filter", "layer", "weight", "unit_filter", "unit_layer", None)


def random_direction(
    model: keras.Model,
    norm: str | None = "filter",
    include_vectors: bool = False,
    seed: int | None = None,
) -> list[np.ndarray]:
    r"""A random direction in the space of a model's weights, scaled to them filter by filter.

    Gaussian numbers that `normalize_direction` scales: without that, a network whose weights are larger, but which
    computes the same, looks flatter.

    Args:
        model: A built model.
        norm: As in `normalize_direction`.
        include_vectors: As in `normalize_direction`.
        seed: Seed of the numbers.

    Returns:
        A list of arrays in the shapes of `model.trainable_variables`.

    Raises:
        ValueError: If the model is not built or `norm` is none of the choices.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(3)])
    direction = kr.analysis.random_direction(model, seed=0)
    ```

    Reference: Hao Li, Zheng Xu, Gavin Taylor, Christoph Studer and Tom Goldstein, *Visualizing the Loss Landscape
    of Neural Nets*, NeurIPS 2018, arXiv:1712.09913.
    """
    if not model.built:
        raise ValueError(
            f"`random_direction` needs a built model, whose weights exist. Received: {model.name!r}, which is "
            "not built; call it on data or give it an `Input` first."
        )
    random = np.random.default_rng(seed)
    direction = [random.normal(size=tuple(v.shape)) for v in model.trainable_variables]
    return normalize_direction(direction, model, norm, include_vectors)


def normalize_direction(
    direction: Sequence[Any],
    weights: keras.Model | Sequence[Any],
    norm: str | None = "filter",
    include_vectors: bool = False,
) -> list[np.ndarray]:
    r"""Scales a direction to the weights it will be added to.

    With a filter for all that feeds one output unit, the choices are

    | `norm` | what becomes of $d$ |
    |---|---|
    | `"filter"` | $d_f\, \lVert w_f \rVert / \lVert d_f \rVert$ for each filter $f$ |
    | `"layer"` | the same with the whole tensor |
    | `"weight"` | $d\, w$, entry by entry |
    | `"unit_filter"`, `"unit_layer"` | norm 1 of each filter or tensor, for the way between two models |
    | `None` | as it is |

    Args:
        direction: A list of arrays in the shapes of the weights.
        weights: The model, whose layers say what the filters of their kernels are: of a kernel `(…, in, out)`
            those of the last axis, of an embedding its rows, of a depthwise kernel those of the last two axes, of
            a transposed convolution those of the last but one, of an einsum those of the axes that are axes of its
            output. Or a list of arrays, with filters on the last axis.
        norm: One of the choices above.
        include_vectors: Whether biases, and scales and shifts of normalization, move too: by themselves then, as
            in the authors' code. Else the direction is 0 there.

    Returns:
        A list of arrays of the same shapes.

    Raises:
        ValueError: If shapes do not fit or `norm` is none of the choices.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(3)])
    direction = [np.ones(v.shape) for v in model.trainable_variables]
    scaled = kr.analysis.normalize_direction(direction, model)
    ```

    Reference: Hao Li, Zheng Xu, Gavin Taylor, Christoph Studer and Tom Goldstein, *Visualizing the Loss Landscape
    of Neural Nets*, NeurIPS 2018, arXiv:1712.09913.
    """
    check_choice("norm", norm, NORMS)
    if isinstance(weights, keras.Model):
        variables = weights.trainable_variables
        owners = all_owners(weights)
        groups = [filter_axes(owners.get(id(v)), v) for v in variables]
        arrays = [_array(v) for v in variables]
    else:
        arrays = [_array(w) for w in weights]
        groups = [(-1,) if w.ndim > 1 else None for w in arrays]
    parts = [_array(d) for d in direction]
    if [p.shape for p in parts] != [w.shape for w in arrays]:
        raise ValueError(
            "`direction` must be a list of arrays in the shapes of the weights, "
            f"{[w.shape for w in arrays]}. Received shapes {[p.shape for p in parts]}"
        )
    return [_scaled(d, w, g, norm, include_vectors) for d, w, g in zip(parts, arrays, groups)]


def _scaled(d, w, filters, norm, include_vectors):
    if filters is None:
        scaled = w if include_vectors else np.zeros_like(w)
    elif norm is None:
        scaled = d
    elif norm == "weight":
        scaled = d * w
    else:
        members = None
        if norm.endswith("filter"):
            kept = {axis % d.ndim for axis in filters}
            members = tuple(axis for axis in range(d.ndim) if axis not in kept)
        lengths = np.sqrt(np.sum(d * d, axis=members, keepdims=True)) + 1e-10
        wanted = (
            1.0 if norm.startswith("unit") else np.sqrt(np.sum(w * w, axis=members, keepdims=True))
        )
        scaled = d * (wanted / lengths)
    return scaled.astype("float32")


def filter_axes(layer: keras.Layer | None, variable: keras.Variable) -> tuple[int, ...] | None:
    """The axes of a weight that tell its filters apart; `None` for a vector, which has none.

    Biases of recurrent layers and of einsums count as vectors, though they may have more axes.
    """
    if len(variable.shape) < 2 or variable.name == "bias":
        return None
    if isinstance(layer, layers.Embedding):
        return (0,)
    if isinstance(layer, layers.EinsumDense):
        inputs, output = layer.equation.replace(" ", "").split("->")
        kernel = inputs.split(",")[1]
        found = tuple(i for i, letter in enumerate(kernel) if letter in output)
        return found or (-1,)
    if variable.name == "depthwise_kernel" or isinstance(
        layer, (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
    ):
        return (-2, -1)
    if isinstance(layer, (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)):
        return (-2,)
    return (-1,)


def project(
    weights: Sequence[Any], directions: Sequence[Sequence[Any]], method: str = "lstsq"
) -> np.ndarray:
    r"""Coordinates of a point of the space of weights along some directions.

    `"lstsq"` gives those of the nearest point of the plane, $\arg\min_c \| w - \sum_i c_i d_i \|$; `"cos"` the
    length of $w$ along each direction alone, $\langle w, d_i \rangle / \|d_i\|$. They agree for orthonormal
    directions.

    Args:
        weights: A list of arrays: as a rule a difference to the weights at the centre of the plane.
        directions: A list of directions, each a list of arrays in the same shapes.
        method: `"lstsq"` or `"cos"`.

    Returns:
        An array `(directions,)`.

    Raises:
        ValueError: If shapes do not fit, or there is no direction.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    first, second = [np.array([1.0, 0.0, 0.0])], [np.array([1.0, 1.0, 0.0])]
    kr.analysis.project([np.array([3.0, 2.0, 5.0])], [first, second])  # [1, 2]
    ```
    """
    check_choice("method", method, ("lstsq", "cos"))
    vector = flat64(weights)
    matrix = [flat64(d) for d in directions]
    if not matrix or any(row.shape != vector.shape for row in matrix):
        raise ValueError(
            f"`directions` must be vectors of {vector.size} entries like `weights`, at least one. Received: "
            f"{[row.size for row in matrix]} entries"
        )
    rows = np.stack(matrix)
    if method == "lstsq":
        return np.linalg.lstsq(rows.T, vector, rcond=None)[0]
    lengths = np.linalg.norm(rows, axis=1)
    return rows @ vector / np.where(lengths > 0, lengths, 1.0)


def flat64(parts: Sequence[Any]) -> np.ndarray:
    """Arrays as one vector in double precision."""
    return np.concatenate([np.ravel(_array(part)) for part in parts])


def _array(weight):
    weight = weight.value if isinstance(weight, keras.Variable) else weight
    if ops.is_tensor(weight):
        weight = ops.convert_to_numpy(
            ops.stop_gradient(ops.cast(weight, "float32"))
            if _is_half(weight)
            else ops.stop_gradient(weight)
        )
    return np.asarray(weight, "float64")


def _is_half(tensor):
    return keras.backend.standardize_dtype(tensor.dtype) in ("float16", "bfloat16")
