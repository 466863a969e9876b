"""The base of the models that attack their inputs in every step."""

from typing import Any

import keras

from keras_regularize.attacks._attack import Attack
from keras_regularize.attacks._points import (
    attacked_outputs,
    find_layer,
    floating_leaves,
    perturbed_output,
)
from keras_regularize.models.regularized_model import RegularizedModel


class AttackedModel(RegularizedModel):
    """Runs an attack once a step, at the unperturbed weights.

    `found(batch)` is what the attack returned: inputs like `batch.x`, or for an attack with `layer=` the
    perturbation of that layer's output. Subclasses override `objective`, and `run_attack` if need be.
    """

    #: Whether the attack or the objective needs `y`.
    needs_labels = True
    #: Whether the attack sees the model in training mode.
    attack_training = False

    def __init__(self, model: keras.Model, attack: Attack, **kwargs: Any):
        if not isinstance(attack, Attack):
            raise ValueError(
                f"`attack` must be an attack such as `kr.attacks.PGD()`. Received: attack={attack!r}"
            )
        super().__init__(model, **kwargs)
        self.attack = attack
        self.attack_seed = attack.seed_generator  # Tracked: saved, and threaded on JAX.

    def check_data(self, x, y):
        super().check_data(x, y)
        if self.attack.layer is None:
            floating_leaves(x)
        if self.needs_labels and y is None:
            raise ValueError(f"`{type(self).__name__}` needs labels `y`. Received: y=None")

    def prepare(self, batch, forward):
        batch = super().prepare(batch, forward)
        return batch.add(**{self.name: self.run_attack(batch, forward)})

    def run_attack(self, batch, forward):
        """Runs the attack; a method that has other labels for it than `batch.y` gives them here."""
        return self.attack(forward, batch.x, batch.y, training=self.attack_training)

    def found(self, batch):
        return batch.extra[self.name]

    def attacked_objective(self, batch, forward):
        """The wrapped model's objective on what the attack found, the one training pass of a step."""
        found, layer = self.found(batch), self.attack.layer
        if layer is None:
            return super().objective(batch.replace(x=found), forward)
        with perturbed_output(find_layer(self, layer), found):
            return super().objective(batch, forward)

    def adversarial_outputs(self, batch, forward):
        """Outputs of a training pass on what the attack found; it moves no batch statistics."""
        return attacked_outputs(
            forward, batch.x, self.found(batch), self.attack.layer, training=True
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "attack": keras.saving.serialize_keras_object(self.attack)}
