"""ARoW: more regularization on less robust samples."""

from typing import Any

import keras

from keras_regularize.attacks.attack import Attack
from keras_regularize.attacks.projected_gradient import PGD
from keras_regularize.losses import arow
from keras_regularize.models.adversarial._paired_loss import PairedLossModel
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class ARoW(PairedLossModel):
    r"""Trains as TRADES does, with more weight on samples whose label the attack takes away.

    $$\frac1B\sum_i \Big[\mathrm{CE}_s(p, y) + \lambda\,(1 - p'_y)\,KL(p\,\|\,p')\Big]$$

    with $p$ and $p'$ the predictions on clean and adversarial inputs and $\mathrm{CE}_s$ the cross-entropy with
    label smoothing: `kr.losses.arow`. The method *replaces* the compiled loss, which only says whether the model
    gives out logits (and is what `evaluate` shows); penalties and sample weights count. The attack runs in
    inference mode, once a step; both passes of the objective are in training mode, batch statistics move with
    the clean one. Logged are the objective and metrics on clean inputs.

    Args:
        model: The model to train, or another wrapper; a classifier with one output.
        attack: The attack; `None` for `PGD(loss="kl")`. The authors take the cross-entropy instead for
            CIFAR-100. One with `layer=` perturbs that layer's output.
        factor: Weight $\lambda$ of the divergence, at least 0; or a schedule. It is that of the authors' code,
            twice the paper's.
        label_smoothing: Share $s$ of the target spread evenly over the classes, in `[0, 1]`.
        from_logits: Whether the model gives out logits; `None` asks the compiled loss, or without one the
            last layer.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range, labels are missing, the model has several outputs, or the
            inputs are integers and the attack has no `layer`.

    Cost: the attack (PGD: `steps` forward and input-backward passes, one more forward pass for `"kl"`) and two
    forward-backward passes.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model = kr.models.ARoW(net, kr.attacks.PGD(0.1, 0.03, 5, loss="kl"))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.random.default_rng(0).random((8, 4))
    model.fit(x, np.arange(8) % 3, verbose=0)
    ```

    Reference: Yang, Kong and Kim, *Improving Adversarial Robustness by Putting More Regularizations on Less
    Robust Samples*, ICML 2023, arXiv:2206.03353. Differs from the authors' code in moving batch statistics
    once a step.
    """

    def __init__(
        self,
        model: keras.Model,
        attack: Attack | None = None,
        factor: Any = 7.0,
        label_smoothing: float = 0.2,
        from_logits: bool | None = None,
        **kwargs: Any,
    ):
        check_number("factor", factor, minimum=0, schedule=True)
        attack = PGD(loss="kl") if attack is None else attack
        super().__init__(model, attack, from_logits=from_logits, **kwargs)
        self.factor = factor
        self.label_smoothing = check_number(
            "label_smoothing", label_smoothing, minimum=0, maximum=1
        )

    def paired_loss(self, batch, logits, adversarial_logits):
        factor = self.scheduled(self.factor, batch)
        return arow(batch.y, logits, adversarial_logits, factor, self.label_smoothing)
