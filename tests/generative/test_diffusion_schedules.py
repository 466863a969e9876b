"""Noise levels and losses of diffusion for train steps of one's own."""

import numpy as np
import pytest

import keras_regularize as kr
from keras_regularize.generative import (
    DiffusionSchedule,
    cosine_beta_schedule,
    denoising_score_matching,
    edm_preconditioning,
    edm_sigmas,
)
from tests.helpers import array, normal

X0, NOISE = normal(4, 3), normal(4, 3, seed=1)
T = np.array([0, 3, 10, 14])


@pytest.mark.parametrize("kind", ["cosine", "linear"])
@pytest.mark.parametrize("prediction", ["x0", "epsilon", "v"])
def test_a_target_gives_the_data_back(kind, prediction):
    schedule = DiffusionSchedule(20, kind)
    noisy = schedule.add_noise(X0, NOISE, T)
    signal = np.sqrt(np.cumprod(1 - schedule.betas))[T][:, None]
    noise = np.sqrt(1 - signal**2)
    np.testing.assert_allclose(array(noisy), signal * X0 + noise * NOISE, rtol=1e-5, atol=1e-6)
    target = schedule.target(X0, NOISE, T, prediction)
    expected = {"x0": X0, "epsilon": NOISE, "v": signal * NOISE - noise * X0}[prediction]
    np.testing.assert_allclose(array(target), expected, rtol=1e-5, atol=1e-6)
    again = array(schedule.denoised(noisy, target, T, prediction))
    np.testing.assert_allclose(again, X0, rtol=1e-3, atol=1e-3)
    variance = schedule.betas * (1 - np.append(1, schedule.alphas_cumprod[:-1]))
    variance = variance / (1 - schedule.alphas_cumprod)
    np.testing.assert_allclose(schedule.posterior_variance, [variance[1], *variance[1:]])
    assert (schedule.posterior_variance > 0).all() and schedule.betas.max() <= 0.999


def test_the_cosine_schedule_is_a_cosine_and_few_steps_are_finite():
    s = (np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2
    betas = cosine_beta_schedule(1000)
    assert betas.dtype == "float64"
    products = np.cumprod(1 - betas)[:-1]
    np.testing.assert_allclose(products, (np.cos(s) ** 2 / np.cos(s[0]) ** 2)[1:-1], rtol=1e-9)
    for kind in ("cosine", "linear"):
        for steps in (1, 2):
            schedule = DiffusionSchedule(steps, kind)
            assert np.isfinite(schedule.snr).all() and (schedule.posterior_variance > 0).all()


def test_edm_of_any_level_and_data_that_are_preconditioned():
    skip, out, scale, time, weight = map(array, edm_preconditioning([1e-12, 1e12], 0.5))
    for part in (skip, out, scale, time):
        assert np.isfinite(part).all()
    np.testing.assert_allclose(out, [1e-12, 0.5], rtol=1e-5)
    sigma = np.array([0.01, 0.5, 20.0])
    skip, out, scale, _, weight = map(array, edm_preconditioning(sigma, 0.5))
    np.testing.assert_allclose(weight * out**2, 1.0, rtol=1e-5)
    np.testing.assert_allclose(scale**2 * (sigma**2 + 0.25), 1.0, rtol=1e-5)
    np.testing.assert_allclose(edm_sigmas(1), [80.0, 0.0])


def test_denoising_score_matching_in_half_precision_and_at_small_levels():
    sigma = np.full(4, 1e-6)
    value = array(denoising_score_matching(-X0 / sigma[:, None], sigma[:, None] * X0, sigma))
    np.testing.assert_allclose(value, 0.0, atol=1e-6)
    same = denoising_score_matching(X0.astype("float16"), NOISE, 0.5)
    expected = 0.5 * 0.25 * np.sum((X0 + NOISE / 0.25) ** 2, axis=1)
    np.testing.assert_allclose(array(same), expected, rtol=2e-3)
    assert denoising_score_matching(X0[:0], NOISE[:0], 0.5).shape == (0,)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: cosine_beta_schedule(0), "`num_timesteps` must be an integer"),
        (lambda: cosine_beta_schedule(5, -0.1), "`offset` must be a number"),
        (lambda: DiffusionSchedule(5, "sigmoid"), "`kind` must be one of"),
        (lambda: DiffusionSchedule(5).target(X0, NOISE, T, "score"), "`prediction` must be one of"),
        (lambda: DiffusionSchedule(5).add_noise(X0, NOISE[:, :1], T), "of one shape"),
        (lambda: DiffusionSchedule(5).add_noise(X0, NOISE, T[:2]), "of one shape"),
        (lambda: edm_preconditioning(1.0, 0.0), "`sigma_data` must be a number above 0"),
        (lambda: edm_sigmas(5, 1.0, 0.5), "`sigma_max` must be a number at least"),
        (lambda: denoising_score_matching(X0, NOISE, np.ones((4, 3))), "sigma"),
        (lambda: denoising_score_matching(X0, NOISE[:2], 1.0), "of one shape"),
        (lambda: kr.generative.physics_informed_loss(X0, X0, X0, T, 20, -1.0), "residual_weight"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
