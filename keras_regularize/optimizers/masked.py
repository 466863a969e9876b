"""Weights that are kept at zero."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.optimizers.wrapper import OptimizerWrapper
from keras_regularize.registration import export


@export
class Masked(OptimizerWrapper):
    r"""Keeps pruned weights at exactly zero, around any Keras optimizer.

    $$w \leftarrow m \odot \left(w + \text{step}(m \odot g)\right), \qquad m \in \{0, 1\}$$

    The masks $m$, one per weight and all ones until `set_masks` is called, are variables of the optimizer.
    So they act at every step, also of a compiled function that makes several, change without compiling
    anew, and are saved and loaded with the model. The wrapped optimizer sees no gradient of a masked weight.
    The pruning callbacks (`kr.callbacks.ThresholdPruning` …) need this optimizer somewhere in what the model
    is compiled with; wrappers around it that only shrink weights, such as `kr.optimizers.Proximal`, leave the
    zeros alone.

    Args:
        optimizer: The Keras optimizer to wrap, or its name. Without gradient accumulation and moving
            averages of the weights. Its `learning_rate` is also this optimizer's.
        name: Name of the optimizer.

    Raises:
        ValueError: If the wrapped optimizer accumulates gradients, averages weights or is a
            `LossScaleOptimizer` (wrap the other way round); if masks do not fit the weights.

    Cost: one elementwise pass over the weights and the memory of one copy of them.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(kr.optimizers.Masked(keras.optimizers.Adam()), "mse")
    model.optimizer.build(model.trainable_variables)
    model.optimizer.set_masks([np.array([[1], [1], [0], [0]]), None])  # The bias is free.
    model.fit(np.ones((8, 4)), np.ones((8, 1)), verbose=0)
    ```

    Reference: Song Han, Jeff Pool, John Tran and William Dally, *Learning both Weights and Connections for
    Efficient Neural Networks*, NeurIPS 2015, arXiv:1506.02626, who prune and train on in this form.
    """

    def build(self, variables: list[keras.Variable]) -> None:
        self._masks = self.add_optimizer_variables(variables, "mask", initializer="ones")
        super().build(variables)

    def step(self, grads: list[Any], variables: list[keras.Variable]) -> None:
        kept = [self._masks[self._get_variable_index(v)] > 0 for v in variables]
        grads = [ops.where(k, g, ops.zeros_like(g)) for k, g in zip(kept, grads)]
        super().step(grads, variables)
        for k, variable in zip(kept, variables):
            value = ops.convert_to_tensor(variable)
            variable.assign(ops.where(k, value, ops.zeros_like(value)))

    def set_masks(self, masks: Sequence[Any]) -> None:
        """Sets which weights train from now on, and the others to zero.

        Args:
            masks: For each trainable variable an array of its shape, nonzero where a weight is kept, or None
                to leave the mask that it has.
        """
        self._check_built()
        if len(masks) != len(self._masks):
            raise ValueError(
                "Expected a mask, or None, for each of the "
                f"{len(self._masks)} trainable variables. Received {len(masks)}."
            )
        for variable, mask in zip(self._trainable_variables, masks):
            if mask is not None and np.shape(mask) != tuple(variable.shape):
                raise ValueError(
                    f"The mask of {variable.path!r} must have its shape {tuple(variable.shape)}. "
                    f"Received a mask of shape {np.shape(mask)}."
                )
        for variable, slot, mask in zip(self._trainable_variables, self._masks, masks):
            if mask is not None:
                mask = ops.convert_to_numpy(mask) != 0
                slot.assign(mask.astype("float32"))
                variable.assign(ops.convert_to_numpy(variable) * mask)

    def get_masks(self) -> list[np.ndarray]:
        """The masks as boolean arrays, in the order of the trainable variables."""
        self._check_built()
        return [ops.convert_to_numpy(mask) != 0 for mask in self._masks]

    def _check_built(self):
        if not self.built:
            raise ValueError(
                "The optimizer knows no variables yet: call `optimizer.build(model.trainable_variables)`."
            )
