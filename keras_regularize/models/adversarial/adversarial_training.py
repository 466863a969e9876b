"""Training on inputs that were attacked at the current weights."""

from typing import Any

import keras

from keras_regularize.attacks.attack import Attack
from keras_regularize.models.attacked_model import AttackedModel
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class AdversarialTraining(AttackedModel):
    r"""Trains on adversarial inputs, found anew in every step at the current weights.

    $$(1 - c)\,L(x') + c\,L(x)$$

    with $x'$ the attack's answer to the batch and $c$ the `clean_weight`. `PGD` gives the training of Madry et
    al., `FGSM` with $c = 0.5$ that of Goodfellow et al., `PGD(step_size=1.25 * epsilon, steps=1)` fast training
    with a random start (Wong et al.).

    The attack runs the model in inference mode (in `ELLE` and `GradAlign` in training mode, as their authors do)
    and changes nothing in it. It runs once a step at the unperturbed weights, so under `SAM` or another gradient
    rule the same $x'$ is used throughout. With `clean_weight=0` the step's one training pass is on $x'$: the
    logged loss and metrics are adversarial ones then, and clean ones otherwise.

    Args:
        model: The model to train, or another wrapper.
        attack: The attack, such as `kr.attacks.PGD(...)`. One with `layer=` perturbs that layer's output.
        clean_weight: Weight $c$ of the loss on clean inputs, from 0 to 1; or a schedule.
        **kwargs: `evaluate_attack`, an attack under which `evaluate` and validation report `robust_accuracy`
            too, as `kr.analysis.robust_accuracy` defines it; `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If `attack` is no attack, or one of directions or targets, an argument is out of range,
            labels are missing, the inputs are integers and the attack has no `layer`, or they lie farther
            than `epsilon` outside its bounds.

    Cost: the attack (PGD: `steps` forward and input-backward passes) and one forward-backward pass, two unless
    `clean_weight` is the number 0.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model = kr.models.AdversarialTraining(net, kr.attacks.PGD(epsilon=0.1, step_size=0.03, steps=5))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.random.default_rng(0).random((8, 4))
    model.fit(x, np.arange(8) % 3, verbose=0)
    ```

    Reference: Madry, Makelov, Schmidt, Tsipras and Vladu, *Towards Deep Learning Models Resistant to
    Adversarial Attacks*, ICLR 2018, arXiv:1706.06083.
    """

    def __init__(self, model: keras.Model, attack: Attack, clean_weight: Any = 0.0, **kwargs: Any):
        super().__init__(model, attack, **kwargs)
        self.clean_weight = check_number(
            "clean_weight", clean_weight, minimum=0, maximum=1, schedule=True
        )

    def objective(self, batch, forward):
        if self.clean_weight == 0:
            return self.attacked_objective(batch, forward)
        clean_weight = self.scheduled(self.clean_weight, batch)
        clean_loss, clean_values = super().objective(batch, forward)
        loss, values = self.attacked_objective(batch, forward)
        return (1 - clean_weight) * loss + clean_weight * clean_loss, {**values, **clean_values}
