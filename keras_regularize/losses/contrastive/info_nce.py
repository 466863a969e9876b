"""The contrastive loss of two towers."""

from keras import ops

from keras_regularize.losses.contrastive._views import ViewsLoss, absent_columns, two_views
from keras_regularize.numerics import matmul, unit_vectors
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class InfoNCE(ViewsLoss):
    r"""InfoNCE between two towers, the loss of CLIP: which of the other tower's features belongs to mine?

    With $s_{ij} = \cos(a_i, b_j) / T$ of the first tower's features $a$ and the second's $b$,

    $$\ell_i = \tfrac12 \Big(\log \sum_j e^{s_{ij}} - s_{ii}\Big)
      + \tfrac12 \Big(\log \sum_j e^{s_{ji}} - s_{ii}\Big).$$

    Only features of the other tower are compared with, unlike in `losses.NTXent`. With `symmetric=False` it is
    the first part alone, without the half: the lower bound of mutual information of contrastive predictive coding.

    On several TensorFlow replicas, or in training in several processes of PyTorch, the batch is that of all of
    them, as it is under `keras.distribution` on JAX.

    Args:
        temperature: $T$, above 0.
        symmetric: Whether both towers are anchors.
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Not used, may be `None`.
        y_pred: Features `(batch, 2, dim)`, of the first tower and of the second.

    Returns:
        With `reduction="none"` one value per sample `(batch,)`, else a scalar.

    Raises:
        ValueError: If `temperature` is not positive, or if the shapes do not fit.

    Cost: one product of the towers' features, $O(B^2 d)$, and a softmax in each direction; $B^2$ numbers.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    image, text = keras.Input((8,)), keras.Input((5,))
    towers = [keras.layers.Dense(16)(image), keras.layers.Dense(16)(text)]
    model = keras.Model([image, text], keras.ops.stack(towers, axis=1))
    model.compile("adam", loss=kr.losses.InfoNCE())
    x = [np.random.normal(size=(64, 8)), np.random.normal(size=(64, 5))]
    model.fit(x, np.zeros(64), batch_size=64, verbose=0)
    ```

    Reference: Aaron van den Oord, Yazhe Li and Oriol Vinyals, *Representation Learning with Contrastive
    Predictive Coding*, 2018, arXiv:1807.03748. Symmetric: Alec Radford and others, *Learning Transferable Visual
    Models From Natural Language Supervision*, ICML 2021, arXiv:2103.00020, who learn the temperature.
    """

    def __init__(
        self,
        temperature: float = 0.07,
        symmetric: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "info_nce",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.temperature = check_number("temperature", temperature, above=0)
        self.symmetric = bool(symmetric)

    def sample_values(self, y_true, z, here):
        a, b = (unit_vectors(view) for view in two_views(z))
        a = a / self.temperature
        scores, together = matmul(a, ops.transpose(b)), ops.sum(a * b, axis=-1)
        absent = absent_columns(here, z.dtype)
        values = ops.logsumexp(scores + absent, axis=-1) - together
        if not self.symmetric:
            return values
        back = scores if here is None else scores + ops.transpose(absent)
        return 0.5 * (values + ops.logsumexp(back, axis=0) - together)
