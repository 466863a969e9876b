"""Clusters of noisy inputs trained by those of clean ones."""

from keras import ops

from keras_regularize.losses._cluster_target_distribution import (
    cluster_target_distribution,
)
from keras_regularize.losses._coupled import BatchCoupledLoss, present
from keras_regularize.numerics import upcast, xlogy
from keras_regularize.registration import export
from keras_regularize.validation import check_number, compatible


@export
class DEPICT(BatchCoupledLoss):
    r"""Cross-entropy of cluster probabilities of noisy inputs to targets made of those of clean inputs.

    $$-\sum_k q_{ik} \log \tilde p_{ik}, \qquad q = T(p),$$

    with the probabilities $\tilde p$ of noisy and $p$ of clean inputs and $T$ of
    `losses.cluster_target_distribution`, with the frequencies of the batch and without gradient. The batch must be
    large against the number of clusters; `models.DEPICT` takes the frequencies of all data.

    Args:
        power: $\nu > 0$: 1 as in the paper, 2 as in its code.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Probabilities of clean inputs, `(batch, clusters)`.
        y_pred: Probabilities of noisy inputs, `(batch, clusters)`, clipped to at least 1e-7.

    Returns:
        With `reduction="none"` one value per sample `(batch,)`, else a scalar.

    Raises:
        ValueError: If `power` is not positive, or shapes do not fit.

    Cost: a few passes over the probabilities.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    clean = np.random.dirichlet(np.ones(3), 32)
    noisy = 0.8 * clean + 0.2 * np.random.dirichlet(np.ones(3), 32)
    kr.losses.DEPICT()(clean, noisy)
    ```

    Reference: Kamran Ghasedi Dizaji, Amirhossein Herandi, Cheng Deng, Weidong Cai and Heng Huang, *Deep Clustering
    via Joint Convolutional Autoencoder Embedding and Relative Entropy Minimization*, ICCV 2017, arXiv:1704.06327.
    """

    from_logits = False

    def __init__(
        self,
        power: float = 2.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "depict",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.power = check_number("power", power, above=0)

    def values(self, y_true, y_pred, counted):
        noisy = upcast(y_pred)
        clean = ops.cast(y_true, noisy.dtype)
        if len(noisy.shape) != 2 or not compatible(clean.shape, noisy.shape):
            raise ValueError(
                "`DEPICT` needs probabilities of clean and of noisy inputs, both `(batch, clusters)`. Received: "
                f"y_true.shape={tuple(clean.shape)}, y_pred.shape={tuple(noisy.shape)}"
            )
        here = present(counted, noisy[:, 0])
        targets = cluster_target_distribution(clean, self.power, here)
        noisy = ops.clip(noisy, 1e-7, 1.0)
        return -ops.sum(xlogy(targets, noisy), axis=-1), None
