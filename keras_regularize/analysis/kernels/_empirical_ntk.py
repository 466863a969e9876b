"""The neural tangent kernel of a network at its weights."""

from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_regularize import autodiff
from keras_regularize.analysis._objective import Objective, flat
from keras_regularize.analysis._progress import progress
from keras_regularize.analysis._samples import is_dataset

_NUMBERS = 10**8  # Of gradients that are kept at once, 800 MB.


def empirical_ntk(
    model: keras.Model, x1: Any, x2: Any = None, output: str | int = "sum"
) -> np.ndarray:
    r"""The neural tangent kernel of a model at its weights.

    $$K_{ij} = \sum_k \langle \nabla_w f_k(x_i), \nabla_w f_k(x'_j) \rangle$$

    over the outputs $f_k$ and all trainable weights: two samples are alike if a step that fits one moves the
    other. Under small steps of gradient descent a wide network learns as a regression with this kernel does. The
    model runs in inference mode and is not changed.

    Args:
        model: A built model with one output, or a wrapper of one.
        x1: Inputs as arrays, in any nested structure the model takes, `n` samples.
        x2: The same of `m` other samples; by default those of `x1`.
        output: `"sum"` over the outputs, the position of a single one, or `"full"` for the inner products of all
            pairs of them. Axes of an output before the last are positions, which count as outputs.

    Returns:
        A float64 array `(n, m)`, or `(n, m, outputs, outputs)` for `"full"`. Symmetric and positive semidefinite
        without `x2`.

    Raises:
        ValueError: If the model is not built, has several outputs or not the one that is asked for, or there is no
            sample.

    Cost: a gradient per sample and output, computed again for each part of `x1` where those of all do not fit into
    800 MB.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(64, "relu"), keras.layers.Dense(1)])
    x = np.random.normal(size=(20, 4))
    kernel = kr.analysis.empirical_ntk(model, x)
    print(np.linalg.eigvalsh(kernel)[0])  # How fast the slowest direction is learnt.
    ```

    Reference: Arthur Jacot, Franck Gabriel and Clément Hongler, *Neural Tangent Kernel: Convergence and
    Generalization in Neural Networks*, NeurIPS 2018, arXiv:1806.07572.
    """
    first = _Gradients(model, x1, output)
    second = first if x2 is None else _Gradients(model, x2, output)
    size = max(1, _NUMBERS // max(1, first.outputs * first.weights))
    result = np.zeros((first.count, second.count, first.outputs, first.outputs))
    parts = range(0, first.count, size)
    for start in progress(parts, "tangent kernel", len(parts)):
        rows = first.of(range(start, min(start + size, first.count)))
        for other in range(0, second.count, size):
            columns = rows
            if second is not first or other != start:
                columns = second.of(range(other, min(other + size, second.count)))
            block = np.tensordot(rows, columns, axes=(2, 2)).transpose(0, 2, 1, 3)
            result[start : start + size, other : other + size] = block
    if output == "full":
        return result
    return np.trace(result, axis1=2, axis2=3)


class _Gradients:
    """Gradients `(samples, outputs, weights)` of outputs in the weights, for some of the samples."""

    def __init__(self, model, x, output):
        if is_dataset(x):
            raise ValueError(
                f"`x1` and `x2` must be arrays, or a structure of them. Received: {type(x).__name__}"
            )
        # The loss is not asked for.
        self._objective = Objective("empirical_ntk", model, x, loss="mse", batch_size=1)
        self._batches = [batch for batch, _ in self._objective.batches()]
        self.count = len(self._batches)
        self.weights = self._objective.size
        self._program = self._objective.program("gradient", self._gradient)
        shape = model.compute_output_shape(
            tree.map_structure(lambda a: (1, *a.shape[1:]), self._batches[0].x)
        )
        if not isinstance(shape, (tuple, list)) or not all(isinstance(s, int) for s in shape):
            raise ValueError(f"The model must have one output. Received: outputs of shapes {shape}")
        self._shape = tuple(shape)
        total = int(np.prod(shape))
        self._chosen = list(range(total))
        if output not in ("sum", "full"):
            if not isinstance(output, (int, np.integer)) or not 0 <= output < total:
                raise ValueError(
                    f"`output` must be 'sum', 'full' or a position from 0 to {total - 1}. Received: "
                    f"output={output!r}"
                )
            self._chosen = [int(output)]
        self.outputs = len(self._chosen)

    def _gradient(self, weights, state, x, cotangent):
        def along(w):
            outputs = self._objective.forward(w, state)(x)
            return ops.sum(outputs * ops.cast(cotangent, outputs.dtype))

        return autodiff.grad(along)(weights)

    def of(self, samples):
        rows = np.empty((len(samples), self.outputs, self.weights))
        unit = np.zeros(self._shape, "float32")
        for i, sample in enumerate(samples):
            for j, k in enumerate(self._chosen):
                unit.flat[k] = 1
                gradient = self._program(
                    self._objective.weights,
                    self._objective.state,
                    self._batches[sample].x,
                    ops.convert_to_tensor(unit + 0),
                )
                unit.flat[k] = 0
                rows[i, j] = flat(gradient)
        return rows
