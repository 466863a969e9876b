"""How often a network folds its input space: straight lines that come back to where they were."""

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.autodiff.taps import recorded_output
from keras_regularize.models.space_folding import layers_with_units
from keras_regularize.validation import check_integer


def folding_measure(patterns: Any) -> float:
    r"""How much a walk through activation patterns comes back to where it was.

    $$\chi = 1 - \frac{\max_i d_H(\pi_i, \pi_1)}{\sum_i d_H(\pi_i, \pi_{i+1})} \in [0, 1)$$

    with the Hamming distance: how far the walk gets from its first pattern, by how many switches it makes. 0 if
    every unit switches at most once, or none does. Patterns that repeat in a row change nothing; the opposite
    direction may give another value, but is 0 if and only if this one is.

    Args:
        patterns: Which units are on, `(steps, units)`, bools or numbers that are not 0.

    Returns:
        A float.

    Raises:
        ValueError: If the shape does not fit, or there is no pattern.

    Cost: one pass over the patterns.

    Example:

    ```python
    import keras_regularize as kr

    kr.analysis.folding_measure([[0, 0], [0, 1], [0, 0], [1, 0]])  # 2 / 3
    ```

    Reference: Michal Lewandowski, Bernhard Heinzl, Raphael Pisoni and Bernhard A. Moser, *The Space Between: On
    Folding, Symmetries and Sampling*, ICLR workshop 2025, arXiv:2503.08502.
    """
    return float(_curve(_as_patterns(patterns))[-1])


def space_folding(
    model: keras.Model,
    start: Any,
    end: Any,
    steps: int = 50,
    layers: Sequence[Any] | None = None,
    curve: bool = False,
    symmetric: bool = False,
) -> Any:
    r"""How much a network folds the straight line from one input to another.

    `folding_measure` of the patterns of hidden units that are on, at equally spaced points of the line. A network
    that maps the line through regions it never returns to has 0; one that lays parts of the line onto each other,
    as $|x|$ does, has more. More steps find more switches.

    Args:
        model: The network.
        start: The first input, without a batch axis.
        end: The last input, of the same shape.
        steps: Number of equal parts of the line, at least 1.
        layers: Layers, or their names, whose outputs are positive where a unit is on. By default those with an
            activation that keeps the sign, such as `relu`, `gelu` or `tanh`.
        curve: Whether to return the measure of the way up to every point, `(steps + 1,)`, rather than of all.
        symmetric: Whether to take the mean of both directions.

    Returns:
        A float, or an array with `curve`.

    Raises:
        ValueError: If an argument is out of range, shapes differ, or no layer is found.

    Cost: one forward pass of `steps + 1` rows.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)])
    kr.analysis.space_folding(model, -np.ones(2), np.ones(2))
    ```

    Reference: Michal Lewandowski, Bernhard Heinzl, Raphael Pisoni and Bernhard A. Moser, *The Space Between: On
    Folding, Symmetries and Sampling*, ICLR workshop 2025, arXiv:2503.08502. At equal steps, as in the
    authors' code; a pre-activation of 0 is off.
    """
    check_integer("steps", steps, minimum=1)
    start, end = (np.asarray(ops.convert_to_numpy(point), "float64") for point in (start, end))
    if start.shape != end.shape:
        raise ValueError(
            "`start` and `end` must be of one shape. "
            f"Received: start.shape={start.shape}, end.shape={end.shape}"
        )
    at = np.linspace(0.0, 1.0, steps + 1).reshape(-1, *(1,) * start.ndim)
    patterns = _patterns(model, (1 - at) * start + at * end, layers)
    values = _curve(patterns)
    if symmetric:
        values = 0.5 * (values + _curve(patterns[::-1]))
    return values if curve else float(values[-1])


@dataclasses.dataclass(frozen=True)
class GlobalFolding:
    """What `global_folding` measures.

    Attributes:
        values: The measure of every line `(pairs,)`.
    """

    values: np.ndarray

    @property
    def median(self) -> float:
        """Median of the lines that are folded at all, the paper's measure; 0 if none is."""
        folded = self.values[self.values > 0]
        return float(np.median(folded)) if len(folded) else 0.0

    @property
    def mean(self) -> float:
        """Mean of all lines."""
        return float(np.mean(self.values))

    @property
    def zero_share(self) -> float:
        """Share of the lines that are not folded."""
        return float(np.mean(self.values == 0))


def global_folding(
    model: keras.Model,
    x: Any,
    labels: Any,
    pairs: int = 100,
    steps: int = 50,
    layers: Sequence[Any] | None = None,
    symmetric: bool = False,
    seed: int | None = None,
) -> GlobalFolding:
    """How much a network folds its input space between classes: `space_folding` of random pairs.

    The two ends of a line are samples of different classes.

    Args:
        model: The network.
        x: Inputs `(n, …)`.
        labels: Class ids `(n,)` or `(n, 1)`, of two classes at least.
        pairs: Number of lines, at least 1.
        steps: As in `space_folding`.
        layers: As in `space_folding`.
        symmetric: As in `space_folding`.
        seed: Integer seed of the pairs, or None.

    Returns:
        A `GlobalFolding`, with `values`, `median`, `mean` and `zero_share`.

    Raises:
        ValueError: If an argument is out of range, labels do not fit, or there is a single class.

    Cost: `pairs` forward passes of `steps + 1` rows.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(8, "relu"), keras.layers.Dense(1)])
    x = np.random.normal(size=(20, 2))
    print(kr.analysis.global_folding(model, x, x[:, 0] > 0, pairs=10).median)
    ```

    Reference: Michal Lewandowski, Bernhard Heinzl, Raphael Pisoni and Bernhard A. Moser, *The Space Between: On
    Folding, Symmetries and Sampling*, ICLR workshop 2025, arXiv:2503.08502.
    """
    check_integer("pairs", pairs, minimum=1)
    x, labels = np.asarray(x), np.asarray(labels).reshape(-1)
    if len(labels) != len(x) or len(np.unique(labels)) < 2:
        raise ValueError(
            "Expected a class id for each input, and two classes at least. "
            f"Received: x.shape={x.shape}, {len(labels)} labels, {len(np.unique(labels))} classes"
        )
    random, values = np.random.default_rng(seed), []
    for _ in range(pairs):
        first = random.integers(len(x))
        second = random.choice(np.flatnonzero(labels != labels[first]))
        ends = x[first], x[second]
        values.append(space_folding(model, *ends, steps, layers, symmetric=symmetric))
    return GlobalFolding(np.array(values))


def _as_patterns(patterns):
    patterns = np.asarray(patterns) != 0
    if patterns.ndim != 2 or not len(patterns):
        raise ValueError(
            f"Expected patterns (steps, units), at least one. Received: shape {patterns.shape}"
        )
    return patterns


def _curve(patterns):
    """The measure of the way up to every pattern."""
    away = np.maximum.accumulate((patterns != patterns[0]).sum(axis=1))
    walked = np.concatenate([[0], np.cumsum((patterns[1:] != patterns[:-1]).sum(axis=1))])
    return np.where(walked > 0, 1.0 - away / np.maximum(walked, 1), 0.0)


def _patterns(model, points, layers):
    """Which units are on at every point, those of all layers side by side."""
    points = ops.convert_to_tensor(points.astype(keras.config.floatx()))
    if layers is None:
        if not model.built:
            model(points)
        layers = layers_with_units(model)
    else:
        layers = [model.get_layer(layer) if isinstance(layer, str) else layer for layer in layers]
    with contextlib.ExitStack() as stack:
        records = [stack.enter_context(recorded_output(layer)) for layer in layers]
        model(points, training=False)
    outputs = [ops.convert_to_numpy(ops.stop_gradient(record[0])) for record in records]
    return np.concatenate([np.reshape(out > 0, (len(out), -1)) for out in outputs], axis=1)
