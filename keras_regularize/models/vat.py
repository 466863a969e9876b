"""Virtual adversarial training."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_regularize.attacks.points import add_floating, attacked_outputs
from keras_regularize.attacks.virtual_adversarial import VirtualAdversarial
from keras_regularize.autodiff.compiled_losses import masked_sample_mean
from keras_regularize.losses import conditional_entropy
from keras_regularize.models.attacked_model import AttackedModel
from keras_regularize.numerics import kl_divergence
from keras_regularize.registration import export
from keras_regularize.scores import class_log_probabilities, class_outputs, gives_logits, one_output
from keras_regularize.validation import check_number


@export
class VAT(AttackedModel):
    r"""Virtual adversarial training: the prediction shall not change in the direction it changes most.

    $$L + \lambda\,\frac1B\sum_i KL\big(p(x_i)\,\|\,p(x_i + r_i)\big) + \mu\,\frac1B\sum_i H\big(p(x_i)\big)$$

    with $r$ from `kr.attacks.VirtualAdversarial`. No label enters the added terms, so rows with the integer
    label -1 (or a one-hot row of -1; one of zeros counts as labelled) are unlabelled: $L$ is then the mean over
    labelled rows (0 if a batch has none), and metrics see labelled rows only. The divergence's target $p(x)$
    is a constant, the entropy's is not. The extra passes run in training mode with the dropout masks of the
    step, and batch statistics move once.

    The method adds to the compiled loss, which must be a classification loss of one output; whether the
    model gives logits is read from it. Tips: `epsilon` is the one argument to tune (8 to 10 for whitened
    CIFAR, 2.5 for SVHN, about 1 for the 64 pixels of scikit-learn's digits); entropy minimization helps with
    thousands of labels, less with dozens.

    Args:
        model: The model to train, or another wrapper.
        epsilon: Length of the perturbation, in units of the inputs, at least 0.
        finite_difference: Step of the power iteration, above 0.
        iterations: Number of power iterations, at least 1.
        factor: Weight $\lambda$ of the divergence, at least 0; or a schedule.
        entropy_factor: Weight $\mu$ of the conditional entropy, at least 0; or a schedule.
        layer: Layer, or its name, whose output is perturbed instead of the inputs; needed for token ids
            (give the embedding). The length is then that of a whole sentence.
        seed: Seed of the initial directions.
        from_logits: Whether the model gives out logits; `None` asks the compiled loss, or without one the
            last layer.
        inputs: Names (dictionary) or positions (list) of the inputs that are perturbed, the others staying as they
            are (they may be ids); all floating ones by default. Not together with `layer`.
        **kwargs: `evaluate_attack`, an attack under which `evaluate` and validation report `robust_accuracy`
            too, as `kr.analysis.robust_accuracy` defines it; `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range, the model has several outputs, or the inputs are integers
            and `layer` is not given.

    Cost: per step one forward-backward pass more than the plain step for the penalty, one forward and
    input-backward pass per power iteration, and one forward pass for its target.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model = kr.models.VAT(net, epsilon=0.5)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = np.random.default_rng(0).random((6, 4))
    model.fit(x, np.array([0, 1, 2, -1, -1, -1]), verbose=0)
    ```

    Reference: Miyato, Maeda, Koyama and Ishii, *Virtual Adversarial Training: A Regularization Method for
    Supervised and Semi-Supervised Learning*, TPAMI 2018, arXiv:1704.03976; at embeddings Miyato, Dai and
    Goodfellow, *Adversarial Training Methods for Semi-Supervised Text Classification*, ICLR 2017,
    arXiv:1605.07725, whose code normalizes them, takes `epsilon=5, finite_difference=0.1` and leaves padding
    out of the probing direction, not out of the perturbation.
    """

    semi_supervised = True
    needs_labels = False
    attack_training = True
    attack_returns_perturbation = True
    needs_probabilities = True

    def __init__(
        self,
        model: keras.Model,
        epsilon: float = 8.0,
        finite_difference: float = 1e-2,
        iterations: int = 1,
        factor: Any = 1.0,
        entropy_factor: Any = 0.0,
        layer: Any = None,
        seed: int | None = None,
        from_logits: bool | None = None,
        inputs: Sequence[str | int] | None = None,
        **kwargs: Any,
    ):
        attack = VirtualAdversarial(
            epsilon, finite_difference, iterations, layer, seed=seed, inputs=inputs
        )
        super().__init__(model, attack, from_logits=from_logits, **kwargs)
        self.factor = check_number("factor", factor, minimum=0, schedule=True)
        self.entropy_factor = check_number(
            "entropy_factor", entropy_factor, minimum=0, schedule=True
        )

    def objective(self, batch, forward):
        loss, values = super().objective(batch, forward)
        penalty = self._penalty(
            forward.outputs_at(batch.x),
            self._moved_outputs(forward, batch.x, self.found(batch), training=True),
            forward,
            self.scheduled(self.factor, batch),
            self.scheduled(self.entropy_factor, batch),
        )
        return loss + ops.cast(penalty, loss.dtype), values

    def regularization_loss(self, x: Any, perturbation: Any) -> Any:
        """The added terms for a given perturbation at inference, to watch them on validation data.

        Args:
            x: Inputs.
            perturbation: As `kr.attacks.VirtualAdversarial` returns it.

        Returns:
            `factor` times the mean divergence plus `entropy_factor` times the mean entropy, a scalar.

        Raises:
            ValueError: If one of the two is a schedule, which needs a training step.
        """
        for name in ("factor", "entropy_factor"):
            check_number(name, getattr(self, name))
        outputs = self.model(x, training=False)
        moved = self._moved_outputs(self.model, x, perturbation, training=False)
        return self._penalty(outputs, moved, self, self.factor, self.entropy_factor)

    def _moved_outputs(self, model, x, perturbation, training):
        layer, inputs = self.attack.layer, self.attack.inputs
        moved = perturbation if layer is not None else add_floating(x, perturbation, inputs)
        return attacked_outputs(model, x, moved, layer, training)

    def _penalty(self, outputs, moved, model, factor, entropy_factor):
        from_logits, shown = gives_logits(model), one_output(outputs, model)
        log_p, log_q = (
            class_log_probabilities(class_outputs(z, model), from_logits) for z in (outputs, moved)
        )
        divergence = kl_divergence(ops.stop_gradient(log_p), log_q)
        penalty = factor * masked_sample_mean(divergence, shown)
        if isinstance(entropy_factor, float) and entropy_factor == 0.0:
            return penalty
        return penalty + entropy_factor * masked_sample_mean(conditional_entropy(log_p), shown)

    def get_config(self) -> dict[str, Any]:
        config, attack = super().get_config(), self.attack
        return {
            **config,
            "epsilon": attack.epsilon,
            "finite_difference": attack.finite_difference,
            "iterations": attack.iterations,
            "factor": keras.saving.serialize_keras_object(self.factor),
            "entropy_factor": keras.saving.serialize_keras_object(self.entropy_factor),
            "layer": attack.layer,
            "inputs": attack.inputs,
            "seed": attack.seed,
        }
