"""The loss of SimCLR."""

from keras_regularize.losses.contrastive._views import (
    ViewsLoss,
    number_of_views,
    positive_crossentropy,
    read_rows,
)
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class NTXent(ViewsLoss):
    r"""NT-Xent, the loss of SimCLR: which of all other views in the batch is one of the same sample?

    Of the views of all samples together, each an anchor $i$ with the set $P_i$ of the other views of its sample,

    $$\ell_i = -\frac{1}{|P_i|} \sum_{p \in P_i} \log
      \frac{\exp(\cos(z_i, z_p) / T)}{\sum_{j \ne i} \exp(\cos(z_i, z_j) / T)},$$

    and the value of a sample is the mean over its views. All other samples of the batch are negatives, so large
    batches help, and a sample of weight 0 is none. Normalisation is part of the loss.

    `models.MultiView` gives out the views; `losses.SupCon` takes labels for what belongs together,
    `losses.InfoNCE` has two encoders.

    On several TensorFlow replicas, or in training in several processes of PyTorch, the batch is that of all of
    them, as it is under `keras.distribution` on JAX.

    Args:
        temperature: $T$, above 0. Smaller ones attend to the hardest negatives; 0.1 to 0.5 are common.
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Not used with views, may be `None`. Otherwise ids `(batch,)` or `(batch, 1)`: rows of the same id
            are views of the same sample.
        y_pred: Features of at least two views `(batch, views, dim)`, or rows `(batch, dim)`.

    Returns:
        With `reduction="none"` one value per sample `(batch,)`, else a scalar. A row without a positive has 0.

    Raises:
        ValueError: If `temperature` is not positive, or if the shapes do not fit.

    Cost: a product of the features with themselves and a softmax: $O(B^2 V^2 d)$ operations and $B^2$ numbers for
    each pair of views.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    encoder = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, activation="relu")])
    model = kr.models.MultiView(encoder, keras.layers.GaussianNoise(0.1), projector=keras.layers.Dense(8))
    model.compile("adam", loss=kr.losses.NTXent(temperature=0.2))
    model.fit(np.random.normal(size=(64, 8)), verbose=0)
    ```

    Reference: Ting Chen, Simon Kornblith, Mohammad Norouzi and Geoffrey Hinton, *A Simple Framework for
    Contrastive Learning of Visual Representations*, ICML 2020, arXiv:2002.05709.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "nt_xent",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.temperature = check_number("temperature", temperature, above=0)

    def sample_values(self, y_true, z, here):
        if len(z.shape) != 2:
            number_of_views(z, 2)
            y_true = None
        rows = read_rows(y_true, z, here)
        return rows.per_sample(positive_crossentropy(rows, self.temperature))
