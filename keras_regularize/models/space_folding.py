"""Training that lets a network fold its input space."""

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops, tree

from keras_regularize.autodiff.taps import recorded_output
from keras_regularize.models.regularized_model import RegularizedModel
from keras_regularize.numerics import upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number

#: Activations whose outputs are positive where what goes in is.
_KEEP_THE_SIGN = {
    *("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "tanh"),
    *("hard_tanh", "softsign", "tanh_shrink", "soft_shrink", "hard_shrink"),
}


@export
class SpaceFolding(RegularizedModel):
    r"""Adds a penalty on straight lines that a network does not fold. Experimental.

    `analysis.space_folding` measures how far a walk along a line comes back to activation patterns where it was,
    $\chi$. That counts switches, which have no gradient; here units are on to a degree,
    $\pi_t = \sigma(s\, h(x_t))$ of their outputs $h$ at equally spaced points $x_0 \dots x_T$ of the line from a
    sample to another one of the batch, and

    $$\text{loss} + \lambda\, \frac1B \sum_{\text{lines}} (1 - \chi), \qquad
      1 - \chi = \frac{\max_t \|\pi_t - \pi_0\|_1}{\sum_t \|\pi_{t+1} - \pi_t\|_1} .$$

    The paper proposes to favour folding, at first above all, and gives no formula; this one is of this package,
    and no more is known of it than that folding rises. To act at first alone, `factor` is a schedule that decays.

    The lines lead from each sample to the one before it in the batch, which `fit` shuffles. The compiled loss and
    labels may be any; predictions are those of the wrapped model.

    Args:
        model: The network, with one floating input.
        factor: $\lambda \ge 0$, or a schedule of it.
        steps: $T$, the parts of a line, at least 2.
        sharpness: $s > 0$. The larger it is, the nearer to counting, and the smaller the gradients.
        layers: Names of layers whose outputs are positive where a unit is on. By default those with an activation
            that keeps the sign, such as `relu`, `gelu` or `tanh`.
        **kwargs: `name` and other arguments of `keras.Model`.

    Raises:
        ValueError: If an argument is out of range, the input is not a single floating one, or no layer is found.

    Cost: a forward-backward pass of `steps + 1` rows for each sample, beside that of the loss.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)])
    model = kr.models.SpaceFolding(net, factor=0.1, steps=8)
    model.compile("adam", "mse")
    model.fit(np.random.normal(size=(32, 2)), np.zeros(32), verbose=0)
    ```

    Reference: Michal Lewandowski, Bernhard Heinzl, Raphael Pisoni and Bernhard A. Moser, *The Space Between: On
    Folding, Symmetries and Sampling*, ICLR workshop 2025, arXiv:2503.08502, for the measure.
    """

    def __init__(
        self,
        model: keras.Model,
        factor: Any = 0.01,
        steps: int = 16,
        sharpness: float = 10.0,
        layers: Sequence[Any] | None = None,
        **kwargs: Any,
    ):
        check_number("factor", factor, minimum=0, schedule=True)
        super().__init__(model, **kwargs)
        self.factor = factor
        self.steps = check_integer("steps", steps, minimum=2)
        self.sharpness = check_number("sharpness", sharpness, above=0)
        self.initial_layers = (
            None if layers is None else [getattr(layer, "name", layer) for layer in layers]
        )

    def check_data(self, x, y):
        super().check_data(x, y)
        leaves = tree.flatten(x)
        if len(leaves) != 1 or not keras.backend.is_float_dtype(
            keras.backend.standardize_dtype(leaves[0].dtype)
        ):
            raise ValueError(
                "`SpaceFolding` needs one floating input, between whose values there are lines. Received: "
                f"{[str(leaf.dtype) for leaf in leaves]}"
            )
        self._layers_with_units()

    def objective(self, batch, forward):
        loss, values = super().objective(batch, forward)
        factor = self.scheduled(self.factor, batch)
        penalty = forward.sample_mean(self._unfolded(batch.x, forward), batch)
        return loss + ops.cast(factor * penalty, loss.dtype), values

    def _unfolded(self, x, forward):
        """`1 - χ` of the line from each sample, `(batch,)`."""
        start = ops.convert_to_tensor(tree.flatten(x)[0])
        end = ops.roll(start, 1, axis=0)
        share = ops.reshape(ops.linspace(0.0, 1.0, self.steps + 1), (-1,) + (1,) * len(start.shape))
        points = start + ops.cast(share, start.dtype) * (end - start)
        rows = ops.reshape(points, (-1, *start.shape[1:]))
        with contextlib.ExitStack() as stack:
            records = [stack.enter_context(recorded_output(u)) for u in self._layers_with_units()]
            forward(tree.pack_sequence_as(x, [rows]))
        steps = [
            ops.reshape(upcast(record[0]), (self.steps + 1, -1, _size(record[0])))
            for record in records
        ]
        patterns = ops.sigmoid(self.sharpness * ops.concatenate(steps, axis=-1))
        away = ops.max(ops.sum(ops.abs(patterns - patterns[:1]), axis=-1), axis=0)
        walked = ops.sum(ops.abs(patterns[1:] - patterns[:-1]), axis=(0, 2))
        moves = walked > 0
        return ops.where(moves, away / ops.where(moves, walked, 1.0), 1.0)

    def _layers_with_units(self):
        net = self.innermost
        if self.initial_layers is not None:
            return [net.get_layer(name) for name in self.initial_layers]
        return layers_with_units(net)


def layers_with_units(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers with an activation that keeps the sign, at least one."""
    kinds = (
        keras.layers.ReLU,
        keras.layers.LeakyReLU,
        keras.layers.PReLU,
        keras.layers.ELU,
    )

    def has_units(layer):
        name = getattr(getattr(layer, "activation", None), "__name__", None)
        return isinstance(layer, kinds) or name in _KEEP_THE_SIGN

    layers = [layer for layer in model.layers if has_units(layer)]
    if not layers:
        raise ValueError(
            "There is no layer with an activation that keeps the sign, such as 'relu': name some by `layers`. "
            f"Received: {model}"
        )
    return layers


def _size(outputs):
    shape = outputs.shape[1:]
    if None in shape:
        raise ValueError(
            "`SpaceFolding` needs units of a known number, so inputs of a known shape. "
            f"Received: outputs of shape {tuple(outputs.shape)}"
        )
    return math.prod(shape)
