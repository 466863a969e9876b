"""The two sides of neural collapse: features at their class centres, and centres far apart."""

from typing import Any

from keras import ops

from keras_regularize.labels import label_mask
from keras_regularize.numerics import matmul, maximum, mean, safe_arccos, unit_vectors, upcast


def neural_collapse_within(features: Any, labels: Any, centers: Any) -> Any:
    r"""How far features are from the centres of their classes, each class counting the same (NC1).

    With the features $x_i$, their labels $y_i$ and a centre $C_k$ for each of $K$ classes,

    $$\frac1K \sum_{k\ \text{in the batch}} \frac{1}{n_k} \sum_{i:\, y_i = k} \|x_i - C_k\|^2 ,$$

    where $n_k$ counts the samples of class $k$ in the batch. It is 0 only if all features lie at their centres.
    Rare classes weigh as much as frequent ones; classes that are absent from the batch add nothing, and count in
    the divisor.

    Args:
        features: $x$, `(batch, features)`.
        labels: Class ids `(batch,)` or `(batch, 1)`, or rows `(batch, classes)`, whose largest entry is the label.
            Samples with the id -1 are left out.
        centers: $C$, `(classes, features)`.

    Returns:
        A scalar, in at least float32.

    Raises:
        ValueError: If the shapes of features, labels and centres do not fit.

    Cost: a few passes over the features.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    features = np.random.normal(size=(6, 4)).astype("float32")
    centers = np.random.normal(size=(3, 4)).astype("float32")
    kr.losses.neural_collapse_within(features, np.array([0, 1, 1, 0, 2, 0]), centers)
    ```

    Reference: Xuantong Liu, Jianfeng Zhang, Tianyang Hu, He Cao, Lujia Pan and Yuan Yao, *Inducing Neural Collapse
    in Deep Long-tailed Learning*, AISTATS 2023, arXiv:2302.12453.
    """
    features, centers = upcast(features), upcast(centers)
    shapes = tuple(features.shape), tuple(centers.shape)
    if not len(shapes[0]) == len(shapes[1]) == 2 or shapes[0][1] != shapes[1][1]:
        raise ValueError(
            "Expected features (batch, features) and centres (classes, features). "
            f"Received: features.shape={shapes[0]}, centers.shape={shapes[1]}"
        )
    member = label_mask(labels, features[:, :1] + ops.zeros(shapes[1][:1], features.dtype))
    own = ops.take(centers, ops.argmax(member, axis=-1), axis=0)
    distances = ops.sum(ops.square(features - own), axis=-1, keepdims=True)
    member = ops.cast(member, features.dtype)
    totals = ops.sum(member * distances, axis=0)
    return mean(totals / maximum(ops.sum(member, axis=0), 1.0))


def neural_collapse_between(centers: Any) -> Any:
    r"""How wide the smallest angles between class centres are, as a loss (NC2).

    Angles are seen from the mean $\bar C$ of the $K$ centres,

    $$-\frac1K \sum_k \min_{j \ne k} \angle\,(C_k - \bar C,\ C_j - \bar C)$$

    in radians. Its minimum $-\arccos\frac{-1}{K - 1}$ is where the centres form a simplex, all equally far
    apart, which needs at least $K - 1$ features. Shifts, rotations and a common scale change nothing. Cosines are
    clipped to ±0.99999; there, as at two equal centres, the gradient is 0. With two classes the angle is always
    $\pi$.

    Args:
        centers: $C$, `(classes, features)`, of at least two classes.

    Returns:
        A scalar, in at least float32.

    Raises:
        ValueError: If there are not at least two centres, as rows of a matrix.

    Cost: the cosines of all pairs of centres, one matrix product.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    centers = np.random.normal(size=(3, 4)).astype("float32")
    kr.losses.neural_collapse_between(centers)
    ```

    Reference: Xuantong Liu, Jianfeng Zhang, Tianyang Hu, He Cao, Lujia Pan and Yuan Yao, *Inducing Neural Collapse
    in Deep Long-tailed Learning*, AISTATS 2023, arXiv:2302.12453.
    """
    centers = upcast(centers)
    if len(centers.shape) != 2 or centers.shape[0] < 2:
        raise ValueError(
            "`centers` must be a matrix of at least two centres, `(classes, features)`. "
            f"Received: centers.shape={tuple(centers.shape)}"
        )
    directions = unit_vectors(centers - mean(centers, axis=0, keepdims=True))
    cosines = matmul(directions, ops.transpose(directions))
    others = cosines - 2.0 * ops.eye(centers.shape[0], dtype=centers.dtype)
    return -mean(safe_arccos(ops.max(others, axis=-1), margin=1e-5))
