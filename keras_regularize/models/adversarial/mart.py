"""MART: adversarial training that cares for misclassified samples."""

from typing import Any

import keras

from keras_regularize.attacks.attack import Attack
from keras_regularize.attacks.projected_gradient import PGD
from keras_regularize.losses import mart
from keras_regularize.models.adversarial._paired_loss import PairedLossModel
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class MART(PairedLossModel):
    r"""Trains on adversarial inputs, and for equal predictions where the clean one is wrong.

    $$\frac1B\sum_i \Big[-\log p'_y - \log\big(1.0001 - \max_{j \ne y} p'_j\big)
      + \beta\,(1 - p_y)\,KL(p\,\|\,p')\Big]$$

    with $p$ and $p'$ the predictions on clean and adversarial inputs: `kr.losses.mart`. The method *replaces* the
    compiled loss, which only says whether the model gives out logits (and is what `evaluate` shows); penalties
    and sample weights count. The attack runs in inference mode, once a step; both passes of the objective are in
    training mode, batch statistics move with the clean one. Logged are the objective and metrics on clean
    inputs.

    Args:
        model: The model to train, or another wrapper; a classifier with one output.
        attack: The attack; `None` for `PGD(random_start="gaussian")`. One with `layer=` perturbs that layer's
            output.
        beta: Weight $\beta$ of the divergence (the paper's $\lambda$), at least 0; or a schedule. The authors use
            5 for residual and 6 for wide residual networks.
        from_logits: Whether the model gives out logits; `None` asks the compiled loss, or without one the
            last layer.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range, labels are missing, the model has several outputs, or the
            inputs are integers and the attack has no `layer`.

    Cost: the attack (PGD: `steps` forward and input-backward passes) and two forward-backward passes.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model = kr.models.MART(net, kr.attacks.PGD(0.1, 0.03, 5, random_start="gaussian"))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.random.default_rng(0).random((8, 4))
    model.fit(x, np.arange(8) % 3, verbose=0)
    ```

    Reference: Wang, Zou, Yi, Bailey, Ma and Gu, *Improving Adversarial Robustness Requires Revisiting
    Misclassified Examples*, ICLR 2020. Differs from the authors' code in moving batch statistics once a step.
    """

    def __init__(
        self,
        model: keras.Model,
        attack: Attack | None = None,
        beta: Any = 5.0,
        from_logits: bool | None = None,
        **kwargs: Any,
    ):
        check_number("beta", beta, minimum=0, schedule=True)
        attack = PGD(random_start="gaussian") if attack is None else attack
        super().__init__(model, attack, from_logits=from_logits, **kwargs)
        self.beta = beta

    def paired_loss(self, batch, logits, adversarial_logits):
        return mart(batch.y, logits, adversarial_logits, self.scheduled(self.beta, batch))
