"""A trained model that another one learns from."""

from typing import Any

import keras

from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.scores import gives_logits, known_logits

_BOTH = ", which then counts for model and teacher"


class Taught(RegularizedModel):
    """Holds a `teacher`, which is saved with the model and is never trained.

    It stays frozen whatever `trainable` is set to here or on a wrapper around; the step calls it in inference
    mode.
    """

    def hold_teacher(self, teacher: keras.Model) -> None:
        """Takes a teacher and freezes it; raises `ValueError` unless it is a built model of its own."""
        if isinstance(teacher, RegularizedModel):
            teacher.ensure_built()
        if not isinstance(teacher, keras.Model) or not teacher.built:
            raise ValueError(
                "`teacher` must be a trained `keras.Model`, which is built. "
                f"Received: {teacher!r} of type {type(teacher).__name__}"
            )
        own = {id(v) for v in self.model.trainable_variables}
        if teacher is self.model or any(id(v) in own for v in teacher.variables):
            raise ValueError(
                "`teacher` must share no trainable weights with the model, which could not learn then: for a copy "
                f"use `keras.models.clone_model` and `set_weights`. Received: teacher={teacher!r}"
            )
        self.teacher = teacher
        teacher.trainable = False

    @property
    def trainable(self) -> bool:
        """Whether the model is trained; the teacher is not."""
        return super().trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        keras.Model.trainable.fset(self, value)
        if hasattr(self, "teacher"):
            self.teacher.trainable = False

    def check_loss(self, model):
        super().check_loss(model)
        self.teacher.trainable = False  # Someone may have trained it alone since.

    def teacher_gives_logits(self, place: Any = None) -> bool:
        """Whether the teacher gives out logits: what it says itself, else what `from_logits` says."""
        known = known_logits(self.teacher, None, place)
        told = self.from_logits if known is None else known
        return gives_logits(self.teacher, told, _BOTH, place)

    def get_config(self) -> dict[str, Any]:
        teacher = keras.saving.serialize_keras_object(self.teacher)
        return {**super().get_config(), "teacher": teacher}
