"""Training on the smooth adversarial comp-sum loss."""

from typing import Any

import keras

from keras_regularize.attacks.attack import Attack
from keras_regularize.attacks.projected_gradient import PGD
from keras_regularize.losses import smooth_adversarial_comp_sum
from keras_regularize.models.adversarial._paired_loss import PairedLossModel
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class AdvCompSum(PairedLossModel):
    r"""Trains for accuracy on clean inputs and for margins that an attack cannot move.

    $$\frac1B\sum_i \Big[\Phi_\tau\Big(\sum_{j \ne y} e^{-D_j(x)/\rho}\Big)
      + \nu\,\|D(x') - D(x)\|_2\Big]$$

    with $D_j = z_y - z_j$ the margins of the label and $\Phi_\tau$ that of `kr.losses.CompSum`:
    `kr.losses.smooth_adversarial_comp_sum`. The attack looks for the $x'$ that moves the margins most.

    The method *replaces* the compiled loss, which only says whether the model gives out logits (and is what
    `evaluate` shows); penalties and sample weights count. The attack runs in inference mode, once a step; both
    passes of the objective are in training mode, batch statistics move with the clean one. Logged are the
    objective and metrics on clean inputs. Tip: `nu` is the trade-off between accuracy and robustness; the theory
    wants at least $\sqrt{K-1}/\rho$ for $K$ classes.

    Args:
        model: The model to train, or another wrapper; a classifier with one output.
        attack: The attack; `None` for `PGD(loss="margin_shift")`, whose start must be random. One with `layer=`
            perturbs that layer's output.
        tau: Member $\tau$ of the comp-sum family, at least 0; 1 for cross-entropy.
        rho: Margin $\rho$, above 0, in units of the logits.
        nu: Weight $\nu$ of the change of margins, at least 0; or a schedule.
        from_logits: Whether the model gives out logits; `None` asks the compiled loss, or without one the
            last layer.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range, labels are missing, the model has several outputs, or the
            inputs are integers and the attack has no `layer`.

    Cost: the attack (PGD: `steps` forward and input-backward passes, one more forward pass for
    `"margin_shift"`) and two forward-backward passes.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model = kr.models.AdvCompSum(net, kr.attacks.PGD(0.1, 0.03, 5, loss="margin_shift"))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.random.default_rng(0).random((8, 4))
    model.fit(x, np.arange(8) % 3, verbose=0)
    ```

    Reference: Mao, Mohri and Zhong, *Cross-Entropy Loss Functions: Theoretical Analysis and Applications*, ICML
    2023, arXiv:2304.07288.
    """

    def __init__(
        self,
        model: keras.Model,
        attack: Attack | None = None,
        tau: float = 1.0,
        rho: float = 1.0,
        nu: Any = 1.0,
        from_logits: bool | None = None,
        **kwargs: Any,
    ):
        if rho == 0:
            raise ValueError("`rho` must be positive. Received: rho=0")
        check_number("nu", nu, minimum=0, schedule=True)
        attack = PGD(loss="margin_shift") if attack is None else attack
        super().__init__(model, attack, from_logits=from_logits, **kwargs)
        self.tau = check_number("tau", tau, minimum=0)
        self.rho = check_number("rho", rho, minimum=0)
        self.nu = nu

    def paired_loss(self, batch, logits, adversarial_logits):
        nu = self.scheduled(self.nu, batch)
        return smooth_adversarial_comp_sum(
            batch.y, logits, adversarial_logits, self.tau, self.rho, nu
        )
