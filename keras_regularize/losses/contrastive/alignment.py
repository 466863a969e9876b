"""How far two views are from each other."""

from keras import ops

from keras_regularize.losses.contrastive._views import ViewsLoss, two_views
from keras_regularize.numerics import unit_vectors
from keras_regularize.ops.points import lengths
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class Alignment(ViewsLoss):
    r"""Alignment: the distance between the features of two views of a sample, to a power.

    $$\ell = \|a - b\|_2^\alpha$$

    It is half of what contrastive losses do, the other half being `regularizers.Uniformity`; alone it collapses.
    With normalised features and $\alpha = 2$ it is $2 - 2 \cos(a, b)$, the loss of BYOL and SimSiam.

    Args:
        alpha: $\alpha$, above 0. Below 1 the gradient is large where views are close.
        normalized: Whether features are divided by their length; the authors' code takes them as they are.
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Not used, may be `None`.
        y_pred: Features of two views `(batch, 2, dim)`.

    Returns:
        With `reduction="none"` one value per sample `(batch,)`, else a scalar. Equal views have gradient 0.

    Raises:
        ValueError: If `alpha` is not positive, or if the shapes do not fit.

    Cost: a few passes over the features.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.Alignment()
    loss(None, np.random.normal(size=(16, 2, 8)))
    ```

    Reference: Tongzhou Wang and Phillip Isola, *Understanding Contrastive Representation Learning through
    Alignment and Uniformity on the Hypersphere*, ICML 2020, arXiv:2005.10242.
    """

    looks_at_others = False

    def __init__(
        self,
        alpha: float = 2.0,
        normalized: bool = True,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "alignment",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.alpha = check_number("alpha", alpha, above=0)
        self.normalized = bool(normalized)

    def sample_values(self, y_true, z, here):
        a, b = two_views(z)
        if self.normalized:
            a, b = unit_vectors(a), unit_vectors(b)
        if self.alpha == 2:
            return ops.sum(ops.square(a - b), axis=-1)
        distance = lengths(a - b)
        apart = distance > 0
        return ops.where(apart, ops.where(apart, distance, 1.0) ** self.alpha, 0.0)
