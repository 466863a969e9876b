"""The supervised contrastive loss."""

from keras_regularize.losses.contrastive._views import (
    ViewsLoss,
    number_of_views,
    positive_crossentropy,
    read_rows,
)
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class SupCon(ViewsLoss):
    r"""Supervised contrastive loss: draws together what has the same label, views of a sample included.

    Of all rows, each an anchor $i$ with the set $P_i$ of the other rows of its label,

    $$\ell_i = -\frac{T}{T_0}\,\frac{1}{|P_i|} \sum_{p \in P_i} \log
      \frac{\exp(\cos(z_i, z_p) / T)}{\sum_{j \ne i} \exp(\cos(z_i, z_j) / T)},$$

    and the value of a sample is the mean over its views. The sum over positives is outside of the logarithm, as
    the authors recommend. Without labels, what belongs together are the views of a sample: `losses.NTXent` times
    $T / T_0$. An anchor whose label no other row has contributes 0.

    Train an encoder and a projector with it, then a classifier on the encoder's features.

    On several TensorFlow replicas, or in training in several processes of PyTorch, the batch is that of all of
    them, as it is under `keras.distribution` on JAX.

    Args:
        temperature: $T$, above 0.
        base_temperature: $T_0$, above 0, which only rescales the loss. Equal to `temperature` for no factor.
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Class ids `(batch,)` or `(batch, 1)`; `None` for views without labels.
        y_pred: Features `(batch, dim)`, or of several views `(batch, views, dim)`.

    Returns:
        With `reduction="none"` one value per sample `(batch,)`, else a scalar.

    Raises:
        ValueError: If a temperature is not positive, or if the shapes do not fit.

    Cost: a product of the features with themselves and a softmax: $O(B^2 V^2 d)$ operations and $B^2$ numbers for
    each pair of views.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.random.randint(0, 3, size=64)
    model = keras.Sequential([keras.layers.Dense(16, activation="relu"), keras.layers.Dense(8)])
    model.compile("adam", loss=kr.losses.SupCon(temperature=0.1))
    model.fit(x, y, batch_size=64, verbose=0)
    ```

    Reference: Prannay Khosla, Piotr Teterwak, Chen Wang, Aaron Sarna, Yonglong Tian, Phillip Isola, Aaron
    Maschinot, Ce Liu and Dilip Krishnan, *Supervised Contrastive Learning*, NeurIPS 2020, arXiv:2004.11362.
    Differs from their code, which takes normalised features, in normalising them itself.
    """

    def __init__(
        self,
        temperature: float = 0.07,
        base_temperature: float = 0.07,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "sup_con",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.temperature = check_number("temperature", temperature, above=0)
        self.base_temperature = check_number("base_temperature", base_temperature, above=0)

    def sample_values(self, y_true, z, here):
        if y_true is None and len(z.shape) == 3:
            number_of_views(z, 2)
        rows = read_rows(y_true, z, here)
        values = positive_crossentropy(rows, self.temperature)
        return rows.per_sample(values) * (self.temperature / self.base_temperature)
