"""Minimum hyperspherical energy: filter directions that repel each other."""

import functools
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.numerics import matmul, maximum, safe_arccos
from keras_regularize.registration import export
from keras_regularize.utils.groups import filter_matrix
from keras_regularize.validation import check_choice, check_integer, check_number

# Pairs whose energies are held at once (64 MiB in float32); more filters are taken in blocks of rows.
_PAIRS_AT_ONCE = 2**24


@export
class MHE(Configured, keras.regularizers.Regularizer):
    r"""Spreads the directions of filters over the sphere by making them repel like charges.

    With the cosine $c_{ij} = w_i \cdot w_j / (\sqrt{\lVert w_i\rVert^2+\epsilon}\,
    \sqrt{\lVert w_j\rVert^2+\epsilon})$ of two filters, the energy is

    $$\lambda \operatorname{mean}_{i<j} f(z_{ij}),\qquad z = 2 - 2c \ \text{(squared distance)}\quad
    \text{or}\quad z = \arccos(c)/\pi + 10^{-4} \ \text{(angular)},$$

    | power $s$ | squared distance | angular |
    |---|---|---|
    | 0 | $-\log z$ | $-\log z$ |
    | 1 | $z^{-1/2}$ | $z^{-1}$ |
    | 2 | $z^{-1}$ | $z^{-2}$ |

    It is least for directions as far apart as can be: for up to $d+1$ filters of $d$ weights a simplex with
    $z = 2n/(n-1)$. Only directions matter while norms are well above $\sqrt\epsilon$. Neurons whose weights
    differ in sign alone are redundant too; `half_space` counts each filter together with its negative.
    Fewer than two filters (with `half_space`, two signs of one filter are two) have energy 0.

    For power 0 the paper takes the logarithm of the inverse distance, its code, followed here, of the
    squared one (a factor of two), and divides angles by π; the constants with which the code multiplies
    single energies belong into `factor`.

    Args:
        factor: $\lambda \ge 0$. The authors use 1 for hidden layers and 10 for the output layer, and a tenth
            of that for the angular energies of power 1 and 2.
        power: $s$: 0, 1 or 2.
        angular: Whether to use angles instead of distances.
        half_space: Whether to add the negative of every filter.
        epsilon: $\epsilon > 0$, added to squared norms; keeps zero filters finite.
        projection_dim: If set, the energy is that of the filters projected by a fixed random matrix to this
            many dimensions, entries $N(0, 1/\mathrm{dim})$ (compressive MHE), for filters with many weights.
        projections: Number of such projections whose energies are averaged.
        seed: Seed of the projections, the same numbers on every backend.

    Input: a kernel `(…, in, out)` with the filters on the last axis. Output: a scalar in at least float32.

    Raises:
        ValueError: If an argument is out of range.

    Cost: one matrix product, `out² · fan_in` multiplications, and `out²` elementwise terms; no array of
    `out² · fan_in` numbers is made. Beyond 4096 filters the pairs are taken in blocks and recomputed in the
    backward pass, which bounds the memory.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    layer = keras.layers.Dense(64, kernel_regularizer=kr.regularizers.MHE(1.0, half_space=True))
    ```

    Reference: Weiyang Liu, Rongmei Lin, Zhen Liu, Lixin Liu, Zhiding Yu, Bo Dai and Le Song, *Learning
    towards Minimum Hyperspherical Energy*, 2018, arXiv:1805.09298; projections: Rongmei Lin and others,
    *Regularizing Neural Networks via Minimizing Hyperspherical Energy*, 2020, arXiv:1906.04892.
    """

    def __init__(
        self,
        factor: float = 1.0,
        power: int = 0,
        angular: bool = False,
        half_space: bool = False,
        epsilon: float = 1e-4,
        projection_dim: int | None = None,
        projections: int = 1,
        seed: int = 0,
    ):
        self.factor = check_number("factor", factor, minimum=0)
        self.power = check_choice("power", power, (0, 1, 2))
        self.angular = bool(angular)
        self.half_space = bool(half_space)
        self.epsilon = check_number("epsilon", epsilon, above=0)
        self.projection_dim = check_integer(
            "projection_dim", projection_dim, minimum=1, optional=True
        )
        self.projections = check_integer("projections", projections, minimum=1)
        self.seed = check_integer("seed", seed, minimum=0)

    def __call__(self, x: Any) -> Any:
        filters = ops.transpose(filter_matrix(x))
        count, fan_in = filters.shape
        if count * (2 if self.half_space else 1) < 2:
            return 0.0 * ops.sum(filters)
        if self.projection_dim is None:
            return self.factor * self._energy(filters)
        energy = 0.0
        for number in range(self.projections):
            matrix = _projection(self.seed, number, fan_in, self.projection_dim)
            matrix = ops.convert_to_tensor(matrix, dtype=filters.dtype)
            energy = energy + self._energy(matmul(filters, matrix))
        return (self.factor / self.projections) * energy

    def _energy(self, filters):
        """Mean energy of the pairs of rows of `filters (n, d)`."""
        squares = ops.sum(filters * filters, axis=1, keepdims=True) + self.epsilon
        units = filters / ops.sqrt(squares)
        count = units.shape[0]
        if count * count <= _PAIRS_AT_ONCE:
            total = self._rows_energy(units, units, 0)
        else:
            total = self._blocked_energy(units)
        if not self.half_space:
            return total / (count * (count - 1))
        total = total + ops.sum(self._potential(-ops.sum(units * units, axis=1)))
        return total / (count * (2 * count - 1))

    def _rows_energy(self, rows, units, start):
        """Energy summed over the ordered pairs of `rows`, the units from `start` on, with another unit."""
        count = units.shape[0]
        index = ops.arange(
            count, dtype="float32"
        )  # Floats: TF warns when it recomputes from integers.
        position = (start + index[: rows.shape[0]])[:, None]
        paired = ops.logical_and(position != index[None, :], position < count)
        cosines = ops.where(paired, matmul(rows, ops.transpose(units)), 0.0)
        energies = self._potential(cosines)
        if self.half_space:
            energies = energies + self._potential(-cosines)
        return ops.sum(ops.where(paired, energies, 0.0))

    def _blocked_energy(self, units):
        count, width = units.shape
        size = max(1, _PAIRS_AT_ONCE // count)
        blocks = -(-count // size)
        rows = ops.pad(units, ((0, blocks * size - count), (0, 0)))
        rows_energy = keras.remat(self._rows_energy)

        def step(total, block):
            energy = rows_energy(block[0], units, block[1])
            return total + energy, energy

        xs = (ops.reshape(rows, (blocks, size, width)), size * ops.arange(blocks, dtype="float32"))
        return ops.scan(step, ops.zeros((), units.dtype), xs)[0]

    def _potential(self, cosines):
        if self.angular:
            z, exponent = safe_arccos(cosines) / math.pi + 1e-4, -self.power
        else:
            z, exponent = maximum(2.0 - 2.0 * cosines, 1e-7), -self.power / 2
        return -ops.log(z) if self.power == 0 else ops.power(z, exponent)


@functools.lru_cache(maxsize=32)
def _projection(seed, number, fan_in, dim):
    rng = np.random.default_rng([seed, number])
    return (rng.standard_normal((fan_in, dim)) / math.sqrt(dim)).astype("float32")
