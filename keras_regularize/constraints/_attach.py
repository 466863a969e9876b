"""Constraints for a model that exists already."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_regularize.registration import export
from keras_regularize.utils import variables


@export
def attach(
    model: keras.Model,
    constraint: Any,
    where: str | Sequence[str] | Callable[[keras.Variable], bool] = "kernel",
) -> list[keras.Variable]:
    r"""Constrains chosen variables of a built model, such as a pretrained backbone.

    Sets the constraint on each chosen variable, so that the optimizer applies it from its next step on, and
    on the public attribute of the layer that owns it (`kernel_constraint`, `depthwise_constraint`,
    `embeddings_constraint`, …; for a recurrent layer on its cell), so that a model that is rebuilt from its
    config, as a `.keras` file is, has it too. A constraint that was there is replaced. Nested models and
    wrappers are searched. The present values are left as they are.

    Attach before `compile`, or compile again: a training step that was traced earlier does not see the
    change. Any variable can be chosen. Layers that the constructor of the layer or model around them makes (those
    in attention, in custom layers, in subclassed models) are made anew on loading, without what was attached: a
    warning names them, and says to attach again after loading.

    Args:
        model: A built Keras model.
        constraint: A constraint for all chosen variables, or a function that gets a variable and returns
            its constraint, for example one that depends on its shape. None removes.
        where: Which variables: the exact name (`"kernel"`, `"bias"`, `"recurrent_kernel"`,
            `"depthwise_kernel"`, `"embeddings"`, `"gamma"`, …), a list of names of variables or of layers on
            their path, or a function of the variable that returns whether to take it, such as
            `kr.utils.AllBut`, which may look at its `path`, `shape` and `trainable`.

    Returns:
        The list of variables that were touched, in the order of `model.weights`.

    Raises:
        ValueError: If the model is not built, or if no variable is chosen.

    Cost: none beyond that of the constraint.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(2)])
    kr.constraints.attach(model, kr.constraints.SoftThreshold(1e-4))
    model.compile("sgd", "mse")
    ```
    """
    return variables.attach(model, constraint, where, "constraint")
