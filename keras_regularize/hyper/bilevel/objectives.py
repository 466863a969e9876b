"""Training and validation objectives of models, as functions of weights and hyperparameters."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_regularize.autodiff import Forward
from keras_regularize.autodiff.compiled_losses import CompiledLoss, weighted_sample_losses
from keras_regularize.autodiff.functional import read_state
from keras_regularize.numerics import upcast


def objective(
    model: keras.Model, loss: Any, x: Any, y: Any, sample_weight: Any = None
) -> Callable[..., Any]:
    r"""The mean loss of a model on data, as a function of its weights.

    `objective(w, a)` runs the model in inference mode at `w`, whatever the hyperparameters `a` are: add what
    depends on them, such as `l2_penalty`. The model is never changed, and its own penalties are not part of it.

    Args:
        model: A built model.
        loss: A loss of Keras, or a name or function of one with a value per sample.
        x: Inputs as arrays, in any nested structure the model takes; all of them are one batch.
        y: Labels as the loss takes them.
        sample_weight: Weights of samples, or `None`.

    Returns:
        A function `(weights, hyperparameters=None) -> scalar` of values of `model.trainable_variables`.

    Raises:
        ValueError: If the model is not built or has no trainable weights, `loss` is `None`, or there are not as
            many labels as inputs.

    Cost: of a call, a forward pass.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    x, y = np.random.normal(size=(2, 30, 4)), np.random.normal(size=(2, 30, 1))
    data = kr.hyper.objective(model, "mse", x[0], y[0])
    gradient = kr.hyper.hypergradient(
        lambda w, a: data(w) + kr.hyper.l2_penalty(w, a),
        kr.hyper.objective(model, "mse", x[1], y[1]),
        [v.numpy() for v in model.trainable_variables],
        np.zeros(1),
    )
    ```
    """
    if loss is None:
        raise ValueError("`objective` needs a loss. Received: loss=None")
    compiled = CompiledLoss(loss, output_names=getattr(model, "output_names", None))
    return objective_with(model, lambda outputs: compiled, x, y, sample_weight)


def objective_with(
    model: keras.Model,
    compiled_for: Callable[[Any], CompiledLoss],
    x: Any,
    y: Any,
    sample_weight: Any = None,
) -> Callable[..., Any]:
    """`objective` with the loss that a function of the outputs gives."""
    if not model.built or not model.trainable_variables:
        raise ValueError(
            "An objective needs a built model with trainable weights. Received: "
            f"{model.name!r}, which {'has none' if model.built else 'is not built'}."
        )
    x, y, sample_weight = (tree.map_structure(_tensor, part) for part in (x, y, sample_weight))
    leaves = [part for part in tree.flatten((x, y, sample_weight)) if part is not None]
    sizes = {tuple(part.shape[:1]) for part in leaves}
    if len(sizes) != 1 or sizes & {(), (0,)}:
        raise ValueError(
            "Inputs, labels and weights must have the same number of samples, at least one. Received: "
            + ", ".join(str(*size) for size in sorted(sizes))
        )
    state = read_state(model)

    def value(weights: Sequence[Any], hyperparameters: Any = None) -> Any:
        outputs = Forward(model, list(weights), state)(x)
        compiled = compiled_for(outputs)
        losses, factors = weighted_sample_losses(compiled.output_losses(y, outputs, sample_weight))
        return ops.mean(upcast(losses * factors))

    return value


def l2_penalty(weights: Any, log_factor: Any, groups: Sequence[int] | None = None) -> Any:
    r"""An L2 penalty whose factors are hyperparameters.

    $$\tfrac12 \sum_g e^{a_g} \sum_{w \in g} w^2$$

    In the terms of `keras.regularizers.L2` the factor of a group is $e^{a_g} / 2$.

    Args:
        weights: A tensor, or a list of them.
        log_factor: $a$: one number for all weights; else a vector with one for each group, and without `groups`
            for each tensor of a list, or for each entry of a single vector.
        groups: The group of each tensor of `weights`, from 0 on, -1 for none; or `None`.

    Returns:
        A scalar.

    Raises:
        ValueError: If `log_factor` or `groups` do not fit the weights.

    Cost: a pass over the weights.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.hyper.l2_penalty([np.ones((3, 2)), np.ones(2)], np.zeros(1), groups=[0, -1])  # 3
    ```
    """
    single = not isinstance(weights, (list, tuple))
    tensors = [upcast(ops.convert_to_tensor(w)) for w in ([weights] if single else weights)]
    log_factor = ops.reshape(ops.convert_to_tensor(log_factor), (-1,))
    factor = ops.exp(ops.cast(log_factor, tensors[0].dtype if tensors else "float32"))
    count = factor.shape[0]
    if groups is not None:
        if len(groups) != len(tensors) or max(groups, default=-1) >= count:
            raise ValueError(
                f"`groups` must have a number below {count}, that of factors, for each of {len(tensors)} tensors. "
                f"Received: groups={groups!r}"
            )
        parts = [(factor[g], w) for g, w in zip(groups, tensors) if g >= 0]
    elif count == 1:
        parts = [(factor[0], w) for w in tensors]
    elif single and tuple(tensors[0].shape) == (count,):
        parts = [(factor, tensors[0])]
    elif not single and count == len(tensors):
        parts = [(factor[i], w) for i, w in enumerate(tensors)]
    else:
        raise ValueError(
            "`log_factor` must have one entry, or one for each tensor of a list or entry of a vector. Received: "
            f"{count} of them for weights of shapes {[tuple(w.shape) for w in tensors]}"
        )
    zero = ops.zeros((), factor.dtype)
    return 0.5 * sum((ops.sum(ops.cast(f, w.dtype) * w * w) for f, w in parts), zero)


def _tensor(leaf):
    if leaf is None:
        return None
    tensor = ops.convert_to_tensor(leaf if ops.is_tensor(leaf) else np.asarray(leaf))
    if keras.backend.standardize_dtype(tensor.dtype) == "float64":
        tensor = ops.cast(tensor, keras.config.floatx())  # As `fit` does.
    return tensor
