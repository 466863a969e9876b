"""What a diffusion model does at a level of noise, in discrete or in continuous time."""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_regularize.models.diffusion.edm import (
    LOG_SIGMA,
    edm_preconditioning,
    edm_sigmas,
    of_edm_target,
)
from keras_regularize.models.diffusion.schedules import loss_weights


class Training(NamedTuple):
    """`(batch,)` factors: of data and noise in the input and in the target, and the weights of the loss."""

    data_in: Any
    noise_in: Any
    data_out: Any
    noise_out: Any
    weight: Any  # `None` if all are 1.


class Grid(NamedTuple):
    """Arrays of the levels that a sampler passes: `x = signal * x0 + noise * epsilon`, and around the network."""

    signal: np.ndarray
    noise: np.ndarray
    scale: np.ndarray
    skip: np.ndarray
    out: np.ndarray
    time: np.ndarray
    deviation: float  # Of the data, as ancestral steps suppose.


class DiscreteLevels:
    """Time steps, with what a network predicts there."""

    samplers = ("ddpm", "ddim")

    def __init__(self, schedule, prediction, weighting, snr_clip, sigma_data):
        self.schedule, self.prediction = schedule, prediction
        self.most_steps = schedule.num_timesteps
        self.skip, self.out = schedule.of_estimate(prediction)
        self.tables = [schedule.signal, schedule.noise, *schedule.of_target(prediction)]
        self.weighted = weighting != "uniform"
        if self.weighted:
            weight = loss_weights(schedule.snr, weighting, snr_clip, sigma_data)
            self.tables.append(weight * self.out**2)

    def draw(self, count, seed):
        """Times `(count,)`."""
        return keras.random.randint((count,), 0, self.most_steps, "int32", seed=seed)

    def at(self, times):
        """`Training` at times."""
        columns = self.schedule.at(times, *self.tables)
        return Training(*columns, *(() if self.weighted else (None,)))

    def network_time(self, times):
        """What the network is told."""
        return times

    def steps_of(self, sampler):
        """Number of steps unless told."""
        return self.most_steps if sampler == "ddpm" else min(50, self.most_steps)

    def grid(self, steps):
        """`Grid` of time steps at equal distances, from the one with the most noise on."""
        times = np.linspace(self.most_steps - 1, 0, steps).round().astype("int32")
        schedule = self.schedule
        return Grid(
            schedule.signal[times],
            schedule.noise[times],
            np.ones(steps),
            self.skip[times],
            self.out[times],
            times,
            1.0,
        )


class ContinuousLevels:
    """Noise levels, with a network that is preconditioned."""

    samplers = ("heun", "ddpm", "ddim")
    most_steps = None

    def __init__(self, weighting, snr_clip, sigma_data):
        self.weighting, self.snr_clip, self.sigma_data = weighting, snr_clip, sigma_data

    def draw(self, count, seed):
        mean, deviation = LOG_SIGMA
        return ops.exp(keras.random.normal((count,), mean, deviation, "float32", seed=seed))

    def at(self, times):
        around = edm_preconditioning(times, self.sigma_data)
        weight = None
        if self.weighting == "min_snr":
            weight = ops.minimum(1.0 / ops.square(times), self.snr_clip) * ops.square(around.out)
        inputs = (around.scale, around.scale * times)
        return Training(*inputs, *of_edm_target(times, self.sigma_data), weight)

    def network_time(self, times):
        return 0.25 * ops.log(times)

    def steps_of(self, sampler):
        return {"heun": 18, "ddim": 50, "ddpm": 200}[sampler]

    def grid(self, steps):
        sigmas = edm_sigmas(steps)[:-1]
        around = edm_preconditioning(ops.convert_to_tensor(sigmas, "float32"), self.sigma_data)
        skip, out, scale, time, _ = (ops.convert_to_numpy(part) for part in around)
        return Grid(np.ones(steps), sigmas, scale, skip, out, time, self.sigma_data)
