"""The base of the models that attack their inputs in every step."""

from typing import Any

import keras

from keras_regularize.attacks.attack import Attack
from keras_regularize.attacks.inputs import check_inputs
from keras_regularize.attacks.points import (
    attacked_outputs,
    find_layer,
    perturbed_output,
)
from keras_regularize.attacks.robustness import check_measurable, withstands
from keras_regularize.autodiff import Batch, Forward
from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.scores import compiled_loss, gives_logits


class AttackedModel(RegularizedModel):
    """Runs an attack once a step, at the unperturbed weights.

    `found(batch)` is what the attack returned: inputs like `batch.x`, or for an attack with `layer=` the
    perturbation of that layer's output. Subclasses override `objective`, and `run_attack` if need be.

    With an `evaluate_attack`, which subclasses take among their `**kwargs`, `evaluate` and the validation of
    `fit` report `robust_accuracy` under it beside the compiled metrics, the definition being that of
    `kr.analysis.robust_accuracy`. It also does where the model is wrapped further. Like `metrics=`, not
    `weighted_metrics=`, it counts every sample once, whatever its weight; in a semi-supervised model every
    labelled one.
    """

    #: Whether the attack or the objective needs `y`.
    needs_labels = True
    #: Whether the attack sees the model in training mode.
    attack_training = False
    #: Whether the attack is one that returns the perturbation itself.
    attack_returns_perturbation = False
    #: Whether the objective is one of class probabilities.
    needs_probabilities = False

    def __init__(
        self,
        model: keras.Model,
        attack: Attack,
        evaluate_attack: Attack | None = None,
        from_logits: bool | None = None,
        **kwargs: Any,
    ):
        _check_attack("attack", attack, measurable=not self.attack_returns_perturbation)
        super().__init__(model, **kwargs)
        self.from_logits = None if from_logits is None else bool(from_logits)
        self.attack: Any = attack  # With the attributes of its own class.
        self.attack_seed_generator = attack.seed_generator  # Tracked: saved, and threaded on JAX.
        self.evaluate_attack = evaluate_attack
        if evaluate_attack is not None:
            _check_attack("evaluate_attack", evaluate_attack, measurable=True)
            self.evaluate_attack_seed_generator = evaluate_attack.seed_generator
            self.evaluation = _RobustAccuracy(evaluate_attack)

    def check_loss(self, model):
        super().check_loss(model)
        if self.evaluate_attack is not None:
            compiled_loss(model)  # One output must have a loss, the class scores.
        if self.needs_probabilities:
            gives_logits(model)
        elif getattr(self.attack, "loss", "compiled") != "compiled":
            gives_logits(model, self.attack.from_logits, self.attack.remedy)

    @property
    def checks_values(self):
        return _has_bounds(self.attack) or super().checks_values

    def check_data(self, x, y):
        super().check_data(x, y)
        check_inputs(self.attack, x)
        if self.evaluate_attack is not None:
            check_inputs(self.evaluate_attack, x)
        if self.needs_labels and y is None:
            raise ValueError(f"`{type(self).__name__}` needs labels `y`. Received: y=None")

    def prepare(self, batch, forward):
        batch = super().prepare(batch, forward)
        return batch.add(**{self.key: self.run_attack(batch, forward)})

    def run_attack(self, batch: Batch, forward: Forward) -> Any:
        """Runs the attack; a method that has other labels for it than `batch.y` gives them here."""
        return self.attack(forward, batch.x, batch.y, training=self.attack_training)

    def found(self, batch: Batch) -> Any:
        """What the attack of this step found."""
        return batch.extra[self.key]

    def attacked_objective(self, batch: Batch, forward: Forward) -> tuple[Any, dict[str, Any]]:
        """The wrapped model's objective on what the attack found, the one training pass of a step."""
        found, layer = self.found(batch), self.attack.layer
        if layer is None:
            return super().objective(batch.replace(x=found), forward)
        with perturbed_output(find_layer(self, layer), found):
            return super().objective(batch, forward)

    def adversarial_outputs(self, batch: Batch, forward: Forward) -> Any:
        """Outputs of a training pass on what the attack found; it moves no batch statistics."""
        return attacked_outputs(
            forward, batch.x, self.found(batch), self.attack.layer, training=True
        )

    def get_config(self) -> dict[str, Any]:
        # Without the attack, which some methods make from arguments of their own.
        return {
            **super().get_config(),
            "evaluate_attack": keras.saving.serialize_keras_object(self.evaluate_attack),
            "from_logits": self.from_logits,
        }


class _RobustAccuracy:
    """What `evaluate` measures under an attack. No Keras object: its metric is none of training."""

    def __init__(self, attack):
        self.attack = attack
        self.metric = keras.metrics.Mean("robust_accuracy")
        self.checks_values = _has_bounds(attack)

    def check_data(self, x, y):
        check_inputs(self.attack, x)
        if y is None:
            raise ValueError("`evaluate_attack` needs labels `y`. Received: y=None")

    def update(self, model, x, y, outputs, weight):
        hits = withstands(model, x, y, outputs, [self.attack])
        self.metric.update_state(hits, sample_weight=weight)


def _has_bounds(attack):
    return getattr(attack, "bounds", None) is not None


def _check_attack(name, attack, measurable):
    if not isinstance(attack, Attack):
        raise ValueError(
            f"`{name}` must be an attack such as `kr.attacks.PGD()`. Received: {name}={attack!r}"
        )
    if measurable:
        check_measurable(name, attack)
