"""Repulsion: weights are driven away from given ones, to unlearn what those know."""

from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.numerics import upcast
from keras_regularize.registration import export
from keras_regularize.regularizers.anchors._reference import checked_array, difference
from keras_regularize.validation import check_choice, check_number

KINDS = ("exponential", "inverse", "negative")


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
        self.kind = check_choice("kind", kind, KINDS)
        self.factor = check_number("factor", factor, minimum=0)
        self.alpha = check_number("alpha", alpha, above=0)

    def __call__(self, x: Any) -> Any:
        square = ops.sum(ops.square(difference(x, self.reference)))
        return self.factor * repulsion(square, self.kind, self.alpha)


def repulsion(square: Any, kind: str, alpha: float) -> Any:
    """The penalty for a squared distance."""
    if kind == "exponential":
        return ops.exp(-alpha * square)
    if kind == "inverse":
        return 1.0 / (square + 1e-12)
    return -square


def parameter_repulsion(
    weights: Any,
    references: Any,
    kind: str = "exponential",
    alpha: float = 1.0,
    reduction: str = "sum",
) -> Any:
    r"""Penalty of all weights of a network together for being near those of others.

    For $d$ the mean over the references of the squared distance, summed over all weights:

    | kind | penalty |
    |---|---|
    | `"exponential"` | $\exp(-\alpha\, d)$ |
    | `"inverse"` | $1 / (d + 10^{-12})$ |
    | `"negative"` | $-d$, without bound |

    Args:
        weights: A list of tensors.
        references: A list of one or more such lists of arrays.
        kind: One of the table.
        alpha: $\alpha > 0$; one over the first $d$ is a good size.
        reduction: `"sum"`, or `"mean"` for the mean over the variables of the mean over their entries.

    Returns:
        A scalar.

    Raises:
        ValueError: If an argument is out of range, or the references do not fit.

    Cost: a pass over the weights for each reference.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.generative.parameter_repulsion([np.ones(3)], [[np.zeros(3)]], kind="inverse")  # 1/3
    ```

    Reference: Piyush Tiwary, Atri Guha, Subhodip Panda and Prathosh A. P., *Adapt then Unlearn: Exploring
    Parameter Space Semantics for Unlearning in Generative Adversarial Networks*, 2023, arXiv:2309.14054. The
    authors' code multiplies the distance by half the squared number of references, a slip.
    """
    check_choice("kind", kind, KINDS)
    check_number("alpha", alpha, above=0)
    check_choice("reduction", reduction, ("sum", "mean"))
    shapes = [tuple(ops.shape(w)) for w in weights]
    if not references or any(shapes != [tuple(ops.shape(w)) for w in r] for r in references):
        raise ValueError(
            "Expected references of the shapes of the weights, at least one. "
            f"Received: {shapes} and {[[tuple(ops.shape(w)) for w in r] for r in references]}"
        )
    total = ops.sum if reduction == "sum" else ops.mean
    distances = [
        total(ops.square(upcast(w) - ops.cast(r, upcast(w).dtype)))
        for reference in references
        for w, r in zip(weights, reference)
    ]
    count = len(references) * (len(shapes) if reduction == "mean" else 1)
    return repulsion(sum(distances) / count, kind, alpha)
