"""Rationale invariance: samples of a class shall be recognised for the same reasons."""

from typing import Any

from keras import ops

from keras_regularize.labels import label_mask
from keras_regularize.numerics import matmul, maximum, upcast
from keras_regularize.validation import check_number


def rationale_invariance(
    features: Any,
    labels: Any,
    kernel: Any,
    bank: Any,
    initialized: Any,
    momentum: float = 0.001,
) -> tuple[Any, Any]:
    r"""How far the reasons for a decision are from what is usual for the class, and the updated memory of that.

    The rationale of a sample with features $x$ under a linear classifier $W$ (column $w_k$ for class $k$) is the
    matrix of the contributions to its logits, $R_{kj} = w_{kj} x_j$, whose row sums are the logits without their
    bias. With a mean rationale $\bar R_c$ remembered for each class, the loss of a batch is

    $$\sum_{c\ \text{in the batch}} \frac{1}{n_c K} \sum_{i:\, y_i = c} \|R_i - \bar R_c\|^2 ,
      \qquad \bar R_c \leftarrow (1 - \beta)\, \bar R_c + \beta\, \frac{1}{n_c} \sum_{i:\, y_i = c} R_i .$$

    The memory is updated first, and is set to the mean of the batch the first time that a class occurs. It gets no
    gradient. Classes are summed over, as the authors do.

    Args:
        features: $x$, `(batch, features)`.
        labels: Class ids `(batch,)` or `(batch, 1)`, or rows `(batch, classes)`, whose largest entry is the label.
            Samples with the id -1 are left out.
        kernel: $W$, `(features, classes)`.
        bank: $\bar R$, `(classes, classes, features)`.
        initialized: Flags `(classes,)`, whether $\bar R_c$ is set already; 0 or 1.
        momentum: Share of the new value, the opposite of Keras' `momentum`, as in the authors' code:
            $\beta$, of a batch in the running mean, from 0 to 1.

    Returns:
        The loss, a scalar in at least float32, and the new memory. Classes that occur in the batch are set in it.

    Raises:
        ValueError: If `momentum` is out of its range, or the shapes do not fit.

    Cost: a few passes over the memory, and matrix products in the size of the classifier's. The rationales of the
    samples are never formed: their mean and spread follow from those of the features.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    features = np.random.normal(size=(6, 4)).astype("float32")
    kernel, bank = np.ones((4, 3), "float32"), np.zeros((3, 3, 4), "float32")
    loss, bank = kr.losses.rationale_invariance(
        features, np.array([0, 1, 1, 0, 2, 0]), kernel, bank, np.zeros(3)
    )
    ```

    Reference: Liang Chen, Yong Zhang, Yibing Song, Anton van den Hengel and Lingqiao Liu, *Domain Generalization
    via Rationale Invariance*, ICCV 2023, arXiv:2308.11158.
    """
    check_number("momentum", momentum, minimum=0, maximum=1)
    features, kernel, bank = upcast(features), upcast(kernel), upcast(bank)
    known = ops.cast(ops.convert_to_tensor(initialized), features.dtype) > 0
    _check_shapes(*(tuple(x.shape) for x in (features, kernel, bank, known)))
    member = label_mask(labels, matmul(features, kernel))
    present, ids = ops.any(member, axis=0), ops.argmax(member, axis=-1)
    member = ops.cast(member, features.dtype)
    share = member / maximum(ops.sum(member, axis=0), 1.0)
    centers = matmul(ops.transpose(share), features)
    apart = features - ops.take(centers, ids, axis=0)
    variance = matmul(ops.transpose(share), ops.square(apart))

    weights = ops.transpose(kernel)
    mean = weights[None] * centers[:, None]
    bank = ops.stop_gradient(bank)
    moved = (1.0 - momentum) * bank + momentum * mean
    updated = ops.where(_rows(known), moved, mean)
    bank = ops.stop_gradient(ops.where(_rows(present), updated, bank))

    # The spread about the memory is that about the batch's own mean and the distance of the two.
    spread = ops.sum(variance * ops.sum(ops.square(weights), axis=0), axis=-1)
    distance = ops.sum(ops.square(mean - bank), axis=(1, 2))
    loss = ops.sum(ops.where(present, spread + distance, 0.0)) / weights.shape[0]
    return loss, bank


def _check_shapes(features, kernel, bank, flags):
    size, classes = kernel[:1], kernel[1:]
    fit = features[1:] == size and bank == classes + classes + size and flags == classes
    if not fit or len(features) != 2 or len(kernel) != 2:
        raise ValueError(
            "Expected features (batch, features), a kernel (features, classes), a bank (classes, classes, "
            f"features) and flags (classes,). Received: features.shape={features}, kernel.shape={kernel}, "
            f"bank.shape={bank}, initialized.shape={flags}"
        )


def _rows(flags):
    return ops.reshape(flags, (-1, 1, 1))
