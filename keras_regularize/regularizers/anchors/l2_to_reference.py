"""L2 towards given weights instead of zero."""

from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.registration import export
from keras_regularize.regularizers.anchors._reference import checked_array, difference
from keras_regularize.validation import check_number


@export
class L2ToReference(Configured, keras.regularizers.Regularizer):
    r"""Pulls weights towards given ones, as L2 pulls them towards zero.

    $$\lambda \lVert w - w_0 \rVert_2^2$$

    With pretrained weights as $w_0$ fine-tuning keeps what they know (L2-SP, which writes $\lambda$ as
    $\alpha/2$); with the initial weights a network that learns one task after another stays able to learn
    (regenerative regularization, L2-Init). A reference of zero is `keras.regularizers.L2`.

    Set it on a built model with `kr.regularizers.attach`, whose function sees each variable. The reference is
    written into the model's config as numbers; for large models use
    `kr.models.WeightPenalty(model, penalty, anchors="plain")`, which keeps it among the weights.

    Args:
        reference: $w_0$, an array of the weight's shape.
        factor: $\lambda \ge 0$.

    Input: a weight of the shape of the reference. Output: a scalar in at least float32.

    Raises:
        ValueError: If an argument is out of range, or the weight has another shape.

    Cost: one pass over the weight.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    kr.regularizers.attach(model, lambda v: kr.regularizers.L2ToReference(v.value, 1e-2))
    ```

    Reference: Xuhong Li, Yves Grandvalet and Franck Davoine, *Explicit Inductive Bias for Transfer Learning
    with Convolutional Networks*, ICML 2018, arXiv:1802.01483; for initial weights Saurabh Kumar, Henrik
    Marklund and Benjamin Van Roy, *Maintaining Plasticity in Continual Learning via Regenerative
    Regularization*, 2023, arXiv:2308.11958.
    """

    def __init__(self, reference: Any, factor: float = 1e-4):
        self.reference = checked_array("reference", reference)
        self.factor = check_number("factor", factor, minimum=0)

    def __call__(self, x: Any) -> Any:
        return self.factor * ops.sum(ops.square(difference(x, self.reference)))
