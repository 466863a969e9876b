"""Adversarial logit pairing."""

from typing import Any

import keras

from keras_regularize.attacks.attack import Attack
from keras_regularize.losses import adversarial_logit_pairing
from keras_regularize.models.adversarial._paired_loss import PairedLossModel
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class ALP(PairedLossModel):
    r"""Trains on clean and adversarial inputs, and for equal logits on both.

    $$\frac1B\sum_i \Big[-\tfrac12 \big(\log p_y + \log p'_y\big) + \frac{\lambda}{K}\,\|z - z'\|_2^2\Big]$$

    with $z$ and $z'$ the logits of clean and adversarial inputs: `kr.losses.adversarial_logit_pairing`. Of a
    model that gives out probabilities, log-probabilities are paired. **Known to be weak:** networks trained with
    it gave way to attacks of many steps (Engstrom et al.). It is here to compare with; prefer `TRADES` or
    `ARoW`.

    The method *replaces* the compiled loss, which only says whether the model gives out logits (and is what
    `evaluate` shows); penalties and sample weights count. The attack runs in inference mode, once a step; both
    passes of the objective are in training mode, batch statistics move with the clean one. Logged are the
    objective and metrics on clean inputs.

    Args:
        model: The model to train, or another wrapper; a classifier with one output.
        attack: The attack, such as `kr.attacks.PGD(...)`. One with `layer=` perturbs that layer's output.
        factor: Weight $\lambda$ of the squared difference, at least 0; or a schedule.
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
    model = kr.models.ALP(net, kr.attacks.PGD(epsilon=0.1, step_size=0.03, steps=5))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.random.default_rng(0).random((8, 4))
    model.fit(x, np.arange(8) % 3, verbose=0)
    ```

    Reference: Kannan, Kurakin and Goodfellow, *Adversarial Logit Pairing*, 2018, arXiv:1803.06373; its
    weakness: Engstrom, Ilyas and Athalye, *Evaluating and Understanding the Robustness of Adversarial Logit
    Pairing*, 2018, arXiv:1807.10272. The authors' code (factor 0.5 too) differs in one concatenated training pass,
    labels smoothed by 0.1, and an attack aimed at the least likely class from a random start: for that give
    smoothed rows as labels.
    """

    def __init__(
        self,
        model: keras.Model,
        attack: Attack,
        factor: Any = 0.5,
        from_logits: bool | None = None,
        **kwargs: Any,
    ):
        check_number("factor", factor, minimum=0, schedule=True)
        super().__init__(model, attack, from_logits=from_logits, **kwargs)
        self.factor = factor

    def paired_loss(self, batch, logits, adversarial_logits):
        factor = self.scheduled(self.factor, batch)
        return adversarial_logit_pairing(batch.y, logits, adversarial_logits, factor)
