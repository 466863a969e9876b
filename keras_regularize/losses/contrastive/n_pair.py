"""An anchor, a positive and several negatives."""

from keras import ops

from keras_regularize.losses.contrastive._views import ViewsLoss, number_of_views
from keras_regularize.numerics import maximum
from keras_regularize.registration import export
from keras_regularize.validation import check_choice


@export
class NPair(ViewsLoss):
    r"""N-pair loss: an anchor's positive should score higher than each of its negatives.

    With $v_i = f(x) \cdot (f(x^+) - f(x^-_i))$ of $k$ negatives, the logistic and the hinge form are

    $$\log\Big(1 + \sum_i e^{-v_i}\Big) \qquad\text{and}\qquad \max\big(0,\; 1 + \max_i (-v_i)\big).$$

    Each sample brings its own negatives, unlike in `losses.NTXent`. Both forms are 1-Lipschitz in the largest
    $|v_i|$, which is why bounds on what is learnt do not grow with the number of negatives (Lei et al.).

    Args:
        loss: `"logistic"` or `"hinge"`.
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Not used, may be `None`.
        y_pred: Features `(batch, 2 + k, dim)` of the anchor, the positive and at least one negative.

    Returns:
        With `reduction="none"` one value per sample `(batch,)`, else a scalar.

    Raises:
        ValueError: If `loss` is none of the two, or if the shapes do not fit.

    Cost: a few passes over the features.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    loss = kr.losses.NPair()
    loss(None, np.random.normal(size=(16, 2 + 5, 8)))
    ```

    Reference: Kihyuk Sohn, *Improved Deep Metric Learning with Multi-class N-pair Loss Objective*, NIPS 2016. The
    hinge form and the theory: Yunwen Lei, Tianbao Yang, Yiming Ying and Ding-Xuan Zhou, *Generalization Analysis
    for Contrastive Representation Learning*, ICML 2023, arXiv:2302.12383.
    """

    looks_at_others = False

    def __init__(
        self,
        loss: str = "logistic",
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "n_pair",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.loss = check_choice("loss", loss, ("logistic", "hinge"))

    def sample_values(self, y_true, z, here):
        number_of_views(z, 3)
        anchor, positive, negatives = z[:, :1], z[:, 1:2], z[:, 2:]
        violations = ops.sum(anchor * (negatives - positive), axis=-1)
        if self.loss == "hinge":
            return maximum(1.0 + ops.max(violations, axis=-1), 0.0)
        return ops.logsumexp(ops.pad(violations, [(0, 0), (1, 0)]), axis=-1)
