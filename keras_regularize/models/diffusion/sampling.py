"""From noise to data, level by level."""

import keras
import numpy as np
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.numerics import maximum, minimum, upcast


class Sampler:
    """Runs the steps of samplers with a network, each as one compiled program.

    All samplers are linear in the estimates of the data: a step is a row of numbers, computed in double precision.
    """

    def __init__(self, network):
        # Behind a function, so that Keras does not track the network twice.
        self._network = lambda: network
        self._step, self._heun = backend.compiled(self._first), backend.compiled(self._second)

    def run(self, grid, x, sampler, clip, conditions, seed):
        """Ends of the paths from noise `x`."""
        ancestral, heun = sampler == "ddpm", sampler == "heun"
        values = [backend.read(v) for v in self._network().variables]
        bounds = np.array(clip or (-np.inf, np.inf), "float32")
        fixed = (values, *_tensors((conditions, bounds)))
        signal, noise = np.append(grid.signal, 1.0), np.append(grid.noise, 0.0)
        for i, time in enumerate(grid.time):
            kept, random = _ancestral(grid, signal[i : i + 2], noise[i : i + 2])
            if not ancestral:
                kept, random = noise[i + 1] / noise[i], 0.0
            around = (grid.scale[i], grid.skip[i], grid.out[i])
            moves = (signal[i + 1] - signal[i] * kept, kept, random)
            row = np.array([*around, *moves], "float32")
            if heun and i + 1 < len(grid.time):
                around = (grid.scale[i + 1], grid.skip[i + 1], grid.out[i + 1])
                after = np.array([*around, *_correction(grid, i)], "float32")
                x = self._heun(*fixed, x, *_tensors((time, row, grid.time[i + 1], after)))
            else:
                z = np.zeros((), "float32")
                if random > 0:
                    z = keras.random.normal(ops.shape(x), dtype="float32", seed=seed)
                x = self._step(*fixed, x, *_tensors((time, row, z)))
        return x

    def _estimate(self, values, conditions, bounds, x, time, row):
        """The data that the network sees in `x`."""
        network = self._network()
        times = (
            ops.zeros_like(x[(slice(None), *(0,) * (len(x.shape) - 1))], dtype=time.dtype) + time
        )
        with keras.StatelessScope(state_mapping=list(zip(network.variables, values))):
            output = network([row[0] * x, times, *conditions], training=False)
        estimate = row[1] * x + row[2] * ops.cast(upcast(output), x.dtype)
        return minimum(maximum(estimate, bounds[0]), bounds[1])

    def _first(self, values, conditions, bounds, x, time, row, z):
        estimate = self._estimate(values, conditions, bounds, x, time, row)
        return row[3] * estimate + row[4] * x + row[5] * z

    def _second(self, values, conditions, bounds, x, time, row, next_time, after):
        first = self._estimate(values, conditions, bounds, x, time, row)
        moved = row[3] * first + row[4] * x
        second = self._estimate(values, conditions, bounds, moved, next_time, after)
        return after[3] * x + after[4] * first + after[5] * moved + after[6] * second


def _ancestral(grid, signal, noise):
    """What an ancestral step keeps of a point, and the deviation of the noise it adds.

    That is the deviation of the next point where the data are normal, in the paper for standardized ones. The last
    step adds none.
    """
    ratio = signal[0] / signal[1]
    added = noise[0] ** 2 - (ratio * noise[1]) ** 2
    before, after = (signal * grid.deviation) ** 2 + noise**2
    random = np.sqrt(max(added, 0.0) * after / before) if noise[1] else 0.0
    return ratio * noise[1] ** 2 / noise[0] ** 2, random


def _correction(grid, i):
    """The mean of both slopes in place of the first: of the point, its estimate, the moved point, its estimate."""
    signal, after = grid.signal[i : i + 2]
    level, next_level = grid.noise[i] / signal, grid.noise[i + 1] / after
    half = 0.5 * (next_level - level)
    return (
        after / signal * (1 + half / level),
        -after * half / level,
        half / next_level,
        -after * half / next_level,
    )


def _tensors(values):
    return keras.tree.map_structure(ops.convert_to_tensor, values)
