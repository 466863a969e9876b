"""Noise of each entry, of data of any shape between 0 and 1."""

import numpy as np


def gaussian_noise(x, deviation, rng):
    return x + rng.normal(scale=deviation, size=x.shape)


def shot_noise(x, photons, rng):
    return rng.poisson(photons * x) / photons


def impulse_noise(x, share, rng):
    drawn = rng.uniform(size=x.shape)
    return np.where(drawn < share / 2, 0.0, np.where(drawn < share, 1.0, x))
