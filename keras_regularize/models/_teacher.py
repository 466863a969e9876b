"""A trained model that another one learns from."""

import keras

from keras_regularize.models.regularized_model import RegularizedModel


def frozen_teacher(teacher, model):
    """The teacher of `model`, frozen; raises `ValueError` unless it is a built model of its own."""
    if isinstance(teacher, RegularizedModel):
        teacher._ensure_built()
    if not isinstance(teacher, keras.Model) or not teacher.built:
        raise ValueError(
            "`teacher` must be a trained `keras.Model`, which is built. "
            f"Received: {teacher!r} of type {type(teacher).__name__}"
        )
    own = {id(v) for v in model.trainable_variables}
    if teacher is model or any(id(v) in own for v in teacher.variables):
        raise ValueError(
            "`teacher` must share no trainable weights with the model, which could not learn then: for a copy use "
            f"`keras.models.clone_model` and `set_weights`. Received: teacher={teacher!r}"
        )
    teacher.trainable = False
    return teacher
