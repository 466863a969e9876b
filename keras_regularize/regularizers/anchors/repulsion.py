"""Repulsion: weights are driven away from given ones, to unlearn what those know."""

from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.registration import export
from keras_regularize.regularizers.anchors._reference import checked_array, difference
from keras_regularize.validation import check_choice, check_number


@export
class Repulsion(Configured, keras.regularizers.Regularizer):
    r"""Drives weights away from given ones, such as those of a copy adapted to what shall be forgotten.

    With $d^2 = \lVert w - w_0 \rVert_2^2$,

    | kind | penalty |
    |---|---|
    | `"exponential"` | $\lambda \exp(-\alpha\, d^2)$ |
    | `"inverse"` | $\lambda / (d^2 + 10^{-12})$ |
    | `"negative"` | $-\lambda\, d^2$ |

    For unlearning: adapt a copy of a trained model to the undesired samples (with `EWC` to the original, which
    keeps the rest), then train the original on desired samples with a repulsion from the copy's weights. At
    the reference itself the gradient is zero: start from the original, not from the copy. The negative form
    is unbounded below, so the loss beside it must be able to hold it.

    $d^2$ grows with the number of weights: take $\alpha$ about one over the initial $d^2$. The distance here is
    that of one variable; `kr.models.WeightPenalty` can penalize the whole model's at once. The authors' code uses
    mean instead of summed squares.

    Args:
        reference: $w_0$, an array of the weight's shape.
        kind: `"exponential"`, `"inverse"` or `"negative"`.
        factor: $\lambda \ge 0$.
        alpha: $\alpha > 0$ of the exponential form.

    Input: a weight of the shape of the reference. Output: a scalar in at least float32.

    Raises:
        ValueError: If an argument is out of range, or the weight has another shape.

    Cost: one pass over the weight.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    adapted = keras.models.clone_model(model)  # … trained on what shall be forgotten.
    away = dict(zip((v.path for v in model.weights), adapted.get_weights()))
    kr.regularizers.attach(model, lambda v: kr.regularizers.Repulsion(away[v.path], alpha=0.1))
    ```

    Reference: Piyush Tiwary, Atri Guha, Subhodip Panda and Prathosh A. P., *Adapt then Unlearn: Exploring
    Parameter Space Semantics for Unlearning in Generative Adversarial Networks*, 2023, arXiv:2309.14054.
    """

    def __init__(
        self,
        reference: Any,
        kind: str = "exponential",
        factor: float = 1.0,
        alpha: float = 1.0,
    ):
        self.reference = checked_array("reference", reference)
        self.kind = check_choice("kind", kind, ("exponential", "inverse", "negative"))
        self.factor = check_number("factor", factor, minimum=0)
        self.alpha = check_number("alpha", alpha, above=0)

    def __call__(self, x: Any) -> Any:
        square = ops.sum(ops.square(difference(x, self.reference)))
        if self.kind == "exponential":
            return self.factor * ops.exp(-self.alpha * square)
        if self.kind == "inverse":
            return self.factor / (square + 1e-12)
        return -self.factor * square
