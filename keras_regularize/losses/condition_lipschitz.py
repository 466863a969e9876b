"""How fast what is generated changes with the condition."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_regularize import autodiff
from keras_regularize.numerics import upcast
from keras_regularize.validation import check_choice, check_number

METHODS = ("jacobian", "difference", "squared_difference")


def condition_lipschitz_penalty(
    generator: Callable[[Any], Any],
    inputs: Any,
    conditions: Any,
    deltas: Any = None,
    factor: float = 1.0,
    method: str = "jacobian",
    noise: float = 0.05,
    mix_conditions: bool = False,
    seed: Any = None,
) -> Any:
    r"""Penalty of a generator whose samples change fast with a continuous condition.

    For noise $z$, conditions $c$ and small $\delta$,

    | `method` | penalty |
    |---|---|
    | `"jacobian"` | $\lambda\, \frac1B \sum_b \|\partial G(z_b, c_b) / \partial c\|_F$ |
    | `"difference"` | $\lambda\, \frac1B \sum_b \|G(z_b, c_b + \delta_b) - G(z_b, c_b)\| / \|\delta_b\|$ |
    | `"squared_difference"` | $\lambda\, \overline{(G(z, c + \delta) - G(z, c))^2}$, over all entries |

    Between conditions that were seen the samples then move smoothly. The last is what the authors' code for time
    series computes, with $\delta = 0.1$ in every coordinate, $\lambda = 100$ and mixed conditions; the first two
    are the formulas of the paper from memory, of which its abstract says only that the generator's Lipschitz
    constant in the condition is penalized.

    Args:
        generator: $G$, a function of a list `[inputs, conditions]`, or a model of that or of both joined.
        inputs: Noise `(batch, …)`.
        conditions: `(batch, size)`, floating.
        deltas: $\delta$, of the shape of the conditions. By default normal of deviation `noise`, or for
            `"squared_difference"` $2 \cdot$ `noise` in every coordinate.
        factor: $\lambda \ge 0$.
        method: One of the table.
        noise: Above 0, in units of the conditions; below 0.01 rounding shows.
        mix_conditions: Whether to take random convex combinations of pairs of the conditions in their place.
        seed: Seed of what is drawn, an integer or a `keras.random.SeedGenerator`.

    Returns:
        A scalar.

    Raises:
        ValueError: If an argument is out of range, or conditions are no matrix.

    Cost: one pass of the generator more, or for `"jacobian"` a forward derivative of as many copies of the batch
    as a condition has numbers.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    generator = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    noise, conditions = np.ones((5, 2), "float32"), np.ones((5, 1), "float32")
    kr.generative.condition_lipschitz_penalty(generator, noise, conditions)
    ```

    Reference: Yufeng Zheng, Yunkai Zhang and Zeyu Zheng, *Continuous Conditional Generative Adversarial Networks
    with Generator Regularization*, 2021, arXiv:2103.14884.
    """
    check_number("factor", factor, minimum=0)
    check_choice("method", method, METHODS)
    check_number("noise", noise, above=0)
    inputs, conditions = (upcast(ops.convert_to_tensor(x)) for x in (inputs, conditions))
    if len(conditions.shape) != 2:
        raise ValueError(
            f"Expected conditions (batch, size). Received: shape={tuple(conditions.shape)}"
        )
    if mix_conditions:
        conditions = _mixed(conditions, seed)
    if deltas is None and method == "squared_difference":
        deltas = 2.0 * noise * ops.ones_like(conditions)
    elif deltas is None and method == "difference":
        shape = ops.shape(conditions)
        deltas = noise * keras.random.normal(shape, dtype=conditions.dtype, seed=seed)

    def generate(inputs, conditions):
        return upcast(generator(conditioned(generator, inputs, conditions)))

    if method == "jacobian":
        return factor * ops.mean(ops.sqrt(_squared_norms(generate, inputs, conditions) + 1e-12))
    deltas = ops.cast(deltas, conditions.dtype)
    change = ops.square(generate(inputs, conditions + deltas) - generate(inputs, conditions))
    if method == "squared_difference":
        return factor * ops.mean(change)
    lengths = ops.sqrt(ops.sum(ops.square(deltas), axis=-1) + 1e-24)
    return factor * ops.mean(ops.sqrt(_sums(change) + 1e-12) / lengths)


def conditioned(network: Any, inputs: Any, conditions: Any) -> Any:
    """What a network is called on: a list, or both joined along the last axis where it has one input."""
    if len(getattr(network, "inputs", None) or ()) == 1:
        return ops.concatenate([inputs, ops.cast(conditions, inputs.dtype)], axis=-1)
    return [inputs, conditions]


def _squared_norms(generate, inputs, conditions):
    """Squared norm of the Jacobian in the condition of each sample, from a copy of the batch per coordinate."""
    size = conditions.shape[-1]
    copies = ops.repeat(conditions, size, axis=0)
    noise = ops.repeat(inputs, size, axis=0)
    directions = ops.tile(ops.eye(size, dtype=copies.dtype), (ops.shape(conditions)[0], 1))
    _, slopes = autodiff.jvp(lambda c: generate(noise, c), copies, directions)
    return ops.sum(ops.reshape(_sums(ops.square(slopes)), (-1, size)), axis=-1)


def _sums(x):
    return ops.sum(x, axis=tuple(range(1, len(x.shape))))


def _mixed(conditions, seed):
    count = ops.shape(conditions)[0]
    share = keras.random.uniform((count, 1), dtype=conditions.dtype, seed=seed)
    order = ops.argsort(keras.random.uniform((count,), seed=seed))
    return share * conditions + (1.0 - share) * ops.take(conditions, order, axis=0)
