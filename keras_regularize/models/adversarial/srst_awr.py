"""Robust training with few labels, under a teacher."""

from typing import Any

import keras
from keras import ops

from keras_regularize.attacks.attack import Attack
from keras_regularize.losses import (
    adaptively_weighted_regularization,
)
from keras_regularize.models._teacher import Taught
from keras_regularize.models.adversarial._paired_loss import PairedLossModel
from keras_regularize.models.step.unlabelled import mask_unlabelled
from keras_regularize.numerics import kl_divergence, mean
from keras_regularize.registration import export
from keras_regularize.scores import class_log_probabilities, class_outputs, label_log_probability
from keras_regularize.validation import check_number


@export
class SRSTAWR(Taught, PairedLossModel):
    r"""Semi-supervised robust training: a teacher's knowledge for all rows, labels for the few that have one.

    $$\frac1m \sum_{i\le m} CE_s(x_i, y_i)
      + \gamma\,\frac1B\sum_u KL\big(t_\tau(u)\,\|\,p_\tau(u)\big)
      + \lambda\,\frac1B\sum_u w(u)\,KL\big(p(u)\,\|\,p(u')\big)$$

    over the $m$ labelled rows and all $B$ rows of a batch. $t$ are the teacher's probabilities, $t_\tau$ and
    $p_\tau$ those at temperature $\tau$, $CE_s$ the cross-entropy with smoothed labels, and $w(u)\,KL$ is
    `kr.losses.adaptively_weighted_regularization`: samples on which the student is not robust yet, or agrees
    with the teacher, count more. Rows with the integer label -1 (or a one-hot row of -1) are unlabelled; the
    first term is 0 if a batch has no others, and metrics see labelled rows only.

    The teacher is a trained model, made semi-supervised and not robust, by `kr.models.VAT` for instance. It is
    frozen (`teacher.trainable = False`), saved with this model, and runs once a step in inference mode. The
    attack sees its most probable class in the place of labels (`"kl"` needs none), runs in inference mode too,
    and once a step.

    The objective *replaces* the compiled loss, which says whether the model gives out logits, and keeps weight
    and activity penalties. Batch statistics move with the clean pass; logged metrics are those of clean inputs.

    Args:
        model: The model to train, or another wrapper.
        teacher: The trained teacher, with the inputs and classes of `model`. If it is compiled, its loss says
            whether it gives out logits, else its last layer.
        attack: The attack. The authors use `kr.attacks.PGD(8 / 255, 2 / 255, 10, loss="kl")` on CIFAR-10,
            cross-entropy with many classes.
        factor: Weight $\lambda$ of the divergence under attack, at least 0; or a schedule.
        distillation_factor: Weight $\gamma$ of the teacher, at least 0; or a schedule.
        beta: Share, from 0 to 1, of the weight $w$ that is the agreement on clean inputs.
        temperature: Temperature $\tau$, above 0.
        label_smoothing: Share $s$ of the label spread over all classes, from 0 to 1.
        from_logits: Whether the model gives out logits, and a teacher that does not say; `None` asks the compiled
            loss, or without one the last layer.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range, `teacher` is no built model or shares trainable
            weights with `model`, labels are missing, or the inputs are integers and the attack has no `layer`.

    Cost: one forward pass of the teacher, the attack (PGD: `steps` forward and input-backward passes, one more
    forward pass for `"kl"`) and two forward-backward passes.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.default_rng(0).random((6, 4)), np.array([0, 1, 2, -1, -1, -1])
    teacher = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])  # Trained with `kr.models.VAT`.
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    attack = kr.attacks.PGD(0.1, 0.03, 5, loss="kl")
    model = kr.models.SRSTAWR(net, teacher, attack)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x, y, verbose=0)
    ```

    Reference: Yang, Kong and Kim, *Enhancing Adversarial Robustness in Low-Label Regime via Adaptively Weighted
    Regularization and Knowledge Distillation*, ICCV 2023, arXiv:2308.04061. Differs from the authors' code in
    moving batch statistics once a step, and in log-softmax for its $\log(p + 10^{-12})$.
    """

    semi_supervised = True

    def __init__(
        self,
        model: keras.Model,
        teacher: keras.Model,
        attack: Attack,
        factor: Any = 20.0,
        distillation_factor: Any = 4.0,
        beta: float = 0.5,
        temperature: float = 1.2,
        label_smoothing: float = 0.2,
        from_logits: bool | None = None,
        **kwargs: Any,
    ):
        check_number("factor", factor, minimum=0, schedule=True)
        check_number("distillation_factor", distillation_factor, minimum=0, schedule=True)
        if temperature == 0:
            raise ValueError("`temperature` must be above 0. Received: temperature=0")
        super().__init__(model, attack, from_logits=from_logits, **kwargs)
        self.hold_teacher(teacher)
        self.factor = factor
        self.distillation_factor = distillation_factor
        self.beta = check_number("beta", beta, minimum=0, maximum=1)
        self.temperature = check_number("temperature", temperature, minimum=0)
        self.label_smoothing = check_number(
            "label_smoothing", label_smoothing, minimum=0, maximum=1
        )

    def check_loss(self, model):
        super().check_loss(model)
        self.teacher_gives_logits()

    def prepare(self, batch, forward):
        outputs = class_outputs(self.teacher(batch.x, training=False), forward)
        log_t = class_log_probabilities(outputs, self.teacher_gives_logits())
        return super().prepare(batch.add(**{self._key: ops.stop_gradient(log_t)}), forward)

    def run_attack(self, batch, forward):
        guess = ops.argmax(batch.extra[self._key], axis=-1)
        return self.attack(forward, batch.x, guess, training=self.attack_training)

    def paired_loss(self, batch, logits, adversarial_logits):
        log_t, tau = batch.extra[self._key], self.temperature
        distillation = kl_divergence(
            ops.log_softmax(log_t / tau, axis=-1), ops.log_softmax(logits / tau, axis=-1)
        )
        robustness = adaptively_weighted_regularization(
            log_t, logits, adversarial_logits, self.beta
        )
        return (
            self._supervised(batch, logits)
            + self.scheduled(self.distillation_factor, batch) * distillation
            + self.scheduled(self.factor, batch) * robustness
        )

    def _supervised(self, batch, logits):
        """Cross-entropy with smoothed labels, whose mean over all rows is that over labelled ones."""
        y, share = mask_unlabelled(batch.y, batch.extra["clean"], None, rescale=True)
        own = label_log_probability(y, logits, from_logits=True)
        others = mean(ops.log_softmax(logits, axis=-1), axis=-1)
        s = self.label_smoothing
        return -ops.cast(share, logits.dtype) * ((1.0 - s) * own + s * others)

    @property
    def _key(self):
        return f"{self.key}_teacher"
