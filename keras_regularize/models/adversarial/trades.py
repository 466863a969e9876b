"""TRADES: a trade-off between accuracy and robustness."""

from typing import Any

import keras

from keras_regularize.attacks.attack import Attack
from keras_regularize.attacks.projected_gradient import PGD
from keras_regularize.models.adversarial._paired_loss import PairedLossModel
from keras_regularize.numerics import kl_divergence, log_probabilities
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class TRADES(PairedLossModel):
    r"""Trains for accuracy on clean inputs and for equal predictions in their neighbourhood.

    $$L(x, y) + \beta\,\frac1B\sum_i KL\big(p(x_i)\,\|\,p(x'_i)\big)$$

    with $x'$ from the attack, by default PGD on the divergence itself from a small Gaussian start. The gradient
    flows through both arguments of the divergence. The attack runs in inference mode, once a step; both passes of
    the objective are in training mode, batch statistics move with the clean one. The method *adds* to the compiled
    loss $L$, which must be a classification loss of one output (with cross-entropy the sum is
    `kr.losses.trades`); sample weights count for both terms.
    Logged are the objective and metrics on clean inputs.

    Args:
        model: The model to train, or another wrapper.
        attack: The attack; `None` for `PGD(loss="kl", random_start="gaussian")`. The authors use on CIFAR-10
            `epsilon=0.031, step_size=0.007, steps=10`, on MNIST 0.3, 0.01, 40.
        beta: Weight $\beta$ of the divergence (their $1/\lambda$), at least 0; or a schedule. 6 on CIFAR-10, 1
            on MNIST.
        from_logits: Whether the model gives out logits; `None` asks the compiled loss, or without one the
            last layer.
        **kwargs: `evaluate_attack`, an attack under which `evaluate` and validation report `robust_accuracy`
            too, as `kr.analysis.robust_accuracy` defines it; `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range, `attack` is one of directions or targets, labels are
            missing, the model has several outputs, the inputs are integers and the attack has no `layer`, or
            they lie farther than `epsilon` outside its bounds.

    Cost: the attack (PGD: `steps` forward and input-backward passes, one more forward pass for `"kl"`) and two
    forward-backward passes.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    attack = kr.attacks.PGD(0.1, 0.03, 5, loss="kl", random_start="gaussian")
    model = kr.models.TRADES(net, attack, beta=6.0)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.random.default_rng(0).random((8, 4))
    model.fit(x, np.arange(8) % 3, verbose=0)
    ```

    Reference: Zhang, Yu, Jiao, Xing, El Ghaoui and Jordan, *Theoretically Principled Trade-off between
    Robustness and Accuracy*, ICML 2019, arXiv:1901.08573. Differs from the authors' code in moving batch
    statistics once a step.
    """

    adds = True

    def __init__(
        self,
        model: keras.Model,
        attack: Attack | None = None,
        beta: Any = 6.0,
        from_logits: bool | None = None,
        **kwargs: Any,
    ):
        check_number("beta", beta, minimum=0, schedule=True)
        if attack is None:
            attack = PGD(loss="kl", random_start="gaussian")
        super().__init__(model, attack, from_logits=from_logits, **kwargs)
        self.beta = beta

    def paired_loss(self, batch, logits, adversarial_logits):
        pair = (log_probabilities(z, from_logits=True) for z in (logits, adversarial_logits))
        return self.scheduled(self.beta, batch) * kl_divergence(*pair)
