"""Centres of classes that follow the features, and features that are drawn to them."""

from typing import Any

from keras import ops

from keras_regularize.labels import label_mask
from keras_regularize.numerics import matmul, upcast


def center_loss(features: Any, labels: Any, centers: Any) -> Any:
    r"""How far features are from the centres of their classes.

    $$\ell_i = \tfrac12\, \|x_i - c_{y_i}\|^2$$

    `layers.CenterLoss` holds the centres and adds this to the loss of a classifier.

    Args:
        features: $x$, `(batch, features)`.
        labels: Class ids `(batch,)` or `(batch, 1)`, or rows `(batch, classes)`, whose largest entry is the label.
            A sample with the id -1 has the value 0.
        centers: $c$, `(classes, features)`.

    Returns:
        Values `(batch,)`, in at least float32.

    Raises:
        ValueError: If the shapes of features, labels and centres do not fit.

    Cost: a few passes over the features.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    features = np.random.normal(size=(6, 4)).astype("float32")
    kr.losses.center_loss(features, np.array([0, 1, 1, 0, 2, 0]), np.zeros((3, 4), "float32"))
    ```

    Reference: Yandong Wen, Kaipeng Zhang, Zhifeng Li and Yu Qiao, *A Discriminative Feature Learning Approach for
    Deep Face Recognition*, ECCV 2016.
    """
    features, member, centers = _read(features, labels, centers)
    known = ops.any(member, axis=-1)
    own = ops.take(centers, ops.argmax(member, axis=-1), axis=0)
    return ops.where(known, 0.5 * ops.sum(ops.square(features - own), axis=-1), 0.0)


def center_update(features: Any, labels: Any, centers: Any, rate: float = 0.5) -> Any:
    r"""Centres of classes after a step towards the features of a batch.

    $$c_j \leftarrow c_j - \text{rate} \cdot \frac{\sum_{i:\, y_i = j} (c_j - x_i)}{1 + n_j}$$

    where $n_j$ counts the samples of class $j$: centres of classes that are absent stay, those of few samples move
    less.

    Args:
        features: $x$, `(batch, features)`.
        labels: Class ids `(batch,)` or `(batch, 1)`, or rows `(batch, classes)`, whose largest entry is the label.
            Samples with the id -1 are left out.
        centers: $c$, `(classes, features)`.
        rate: How far they move, between 0 and 1.

    Returns:
        The new centres, in at least float32, without gradient.

    Raises:
        ValueError: If the shapes of features, labels and centres do not fit.

    Cost: a product of labels and features.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    features = np.random.normal(size=(6, 4)).astype("float32")
    kr.losses.center_update(features, np.array([0, 1, 1, 0, 2, 0]), np.zeros((3, 4), "float32"))
    ```

    Reference: Yandong Wen, Kaipeng Zhang, Zhifeng Li and Yu Qiao, *A Discriminative Feature Learning Approach for
    Deep Face Recognition*, ECCV 2016.
    """
    features, member, centers = _read(features, labels, centers)
    member = ops.cast(member, features.dtype)
    count = ops.sum(member, axis=0)[:, None]
    differences = count * centers - matmul(ops.transpose(member), features)
    return ops.stop_gradient(centers - rate * differences / (1.0 + count))


def _read(features, labels, centers):
    features = upcast(features)
    centers = ops.cast(ops.convert_to_tensor(centers), features.dtype)
    shapes = tuple(features.shape), tuple(centers.shape)
    if not len(shapes[0]) == len(shapes[1]) == 2 or shapes[0][1] != shapes[1][1]:
        raise ValueError(
            "Expected features (batch, features) and centres (classes, features). "
            f"Received: features.shape={shapes[0]}, centers.shape={shapes[1]}"
        )
    scores = features[:, :1] + ops.zeros(shapes[1][:1], features.dtype)
    return features, label_mask(labels, scores), centers
