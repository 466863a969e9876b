"""Regularizers for a model that exists already."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_regularize.registration import export
from keras_regularize.utils import variables


@export
def attach(
    model: keras.Model,
    regularizer: Any,
    where: str | Sequence[str] | Callable[[keras.Variable], bool] = "kernel",
) -> list[keras.Variable]:
    r"""Regularizes chosen variables of a built model, such as a pretrained backbone.

    Sets the regularizer on each chosen variable, so that it counts in `model.losses` at once, and on the
    public attribute of the layer that owns it (`kernel_regularizer`, `depthwise_regularizer`,
    `embeddings_regularizer`, …; for a recurrent layer on its cell), so that a model that is rebuilt from its
    config, as a `.keras` file is, has it too. A regularizer that was there is replaced. Nested models and
    wrappers are searched.

    Attach before `compile`, or compile again: a training step that was traced earlier does not see the
    change. Frozen variables carry their regularizer, but Keras counts it only once they are trainable.

    Any variable can be chosen. Layers that the constructor of the layer or model around them makes (those in
    attention, in custom layers, in subclassed models) are made anew on loading, without what was attached: a
    warning names them. Attach again after loading, or use `kr.models.WeightPenalty`, which is saved.

    Args:
        model: A built Keras model.
        regularizer: A regularizer for all chosen variables, or a function that gets a variable and returns
            its regularizer, for example one anchored at the variable's present value. None removes.
        where: Which variables: the exact name (`"kernel"`, `"bias"`, `"recurrent_kernel"`,
            `"depthwise_kernel"`, `"embeddings"`, `"gamma"`, …), a list of names of variables or of layers on
            their path, or a function of the variable that returns whether to take it, such as
            `kr.utils.AllBut`, which may look at its `path`, `shape` and `trainable`.

    Returns:
        The list of variables that were touched, in the order of `model.weights`.

    Raises:
        ValueError: If the model is not built, or if no variable is chosen.

    Cost: none beyond that of the regularizer.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(2)])
    kr.regularizers.attach(model, kr.regularizers.NormLoss(0.01))
    kr.regularizers.attach(model, keras.regularizers.L2(1e-4), where=lambda v: v.name == "bias")
    model.compile("sgd", "mse")
    ```
    """
    return variables.attach(model, regularizer, where, "regularizer")
