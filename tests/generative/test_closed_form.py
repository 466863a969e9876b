"""Diffusion in closed form: sums over the data in loops, and what smoothing does to them."""

import numpy as np
import pytest
from keras import ops

from keras_regularize import autodiff
from keras_regularize.generative import (
    ClosedFormDiffusion,
    closed_form_sample,
    closed_form_score,
    closed_form_velocity,
    nearest_neighbor_score,
)
from tests.helpers import array, normal

DATA, Z, NOISE = normal(7, 2), normal(4, 2, seed=1), normal(3, 2, seed=2)


def mean_of(z, data, noise, t, smoothing):
    """In double precision, point by point."""
    means = []
    for point, shifts in zip(z, noise):
        weights = 0.0
        for shift in shifts:
            gaps = np.sum((point + smoothing * shift - t * data) ** 2, axis=1)
            w = np.exp(-(gaps - gaps.min()) / (2 * (1 - t) ** 2))
            weights = weights + w / w.sum() / len(shifts)
        means.append(weights @ data)
    return np.array(means)


@pytest.mark.parametrize("t", [0.0, 0.3, 0.95])
def test_noise_of_each_point_and_images_equal_a_loop(t):
    noise = normal(4, 3, 2, seed=3)
    m = mean_of(Z.astype("float64"), DATA.astype("float64"), noise, t, 0.2)
    score = array(closed_form_score(Z, DATA, noise, t, 0.2))
    np.testing.assert_allclose(score, (t * m - Z) / (1 - t) ** 2, rtol=1e-3, atol=1e-3)
    velocity = array(
        closed_form_velocity(
            Z.reshape(4, 1, 2, 1), DATA.reshape(7, 1, 2, 1), noise.reshape(4, 3, 1, 2, 1), t, 0.2
        )
    )
    np.testing.assert_allclose(velocity[:, 0, :, 0], (m - Z) / (1 - t), rtol=1e-3, atol=1e-3)


def test_the_score_is_the_gradient_of_the_log_density():
    data = ops.convert_to_tensor(DATA)

    def log_density(z):
        gaps = z[:, None] - 0.6 * data[None]
        return ops.sum(ops.logsumexp(-ops.sum(gaps * gaps, axis=-1) / (2 * 0.4**2), axis=1))

    gradient = array(autodiff.grad(log_density)(ops.convert_to_tensor(Z)))
    np.testing.assert_allclose(array(closed_form_score(Z, DATA, time=0.6)), gradient, rtol=1e-3)


def test_what_holds_of_any_data():
    mean = DATA.mean(axis=0)
    np.testing.assert_allclose(
        array(closed_form_velocity(Z, DATA, time=0.0)), mean - Z, rtol=1e-4, atol=1e-5
    )
    one_step = array(closed_form_sample(Z, DATA, steps=1))
    np.testing.assert_allclose(one_step, np.tile(mean, (4, 1)), rtol=1e-5, atol=1e-6)
    one = array(closed_form_score(Z, DATA[:1], NOISE, 0.7, 0.5))
    np.testing.assert_allclose(one, (0.7 * DATA[:1] - Z) / 0.09, rtol=1e-4)
    near = array(closed_form_score(Z * 1e4, DATA, time=0.999))
    assert np.isfinite(near).all()
    assert closed_form_score(Z[:0], DATA).shape == (0, 2)
    far = array(closed_form_sample(Z, DATA + 1000.0))
    assert np.abs(far[:, None] - DATA - 1000.0).sum(-1).min(axis=1).max() < 1e-3


def test_all_others_as_neighbors_are_exact_and_near_the_end_few_are_enough():
    for t in (0.0, 0.4):
        exact = array(closed_form_score(Z, DATA, time=t))
        every = nearest_neighbor_score(Z, DATA, np.arange(4), t, 3)
        np.testing.assert_allclose(array(every), exact, rtol=1e-4, atol=1e-5)
        whole = nearest_neighbor_score(Z, DATA, np.zeros(0, "int32"), t, 7)
        np.testing.assert_allclose(array(whole), exact, rtol=1e-4, atol=1e-5)
    own = np.array([[0, 1], [2, 3], [3, 0], [1, 2]])
    together = array(nearest_neighbor_score(Z, DATA, own, 0.4, 3))
    same = array(nearest_neighbor_score(Z, DATA, own[2], 0.4, 3))
    np.testing.assert_allclose(together[2], same[2], rtol=1e-5)
    assert np.abs(together[0] - same[0]).max() > 1e-4


def test_the_object_gives_what_the_functions_give(monkeypatch):
    from keras_regularize.generative import closed_form

    model = ClosedFormDiffusion(DATA)
    for t in (0.0, 0.5):
        np.testing.assert_allclose(
            model.score(Z, t), array(closed_form_score(Z, DATA, time=t)), rtol=1e-4, atol=1e-5
        )
    smooth = ClosedFormDiffusion(DATA, 0.3, num_noise=2, seed=5)
    noise = np.random.default_rng(5).standard_normal((4, 2, 2)).astype("float32")
    expected = array(closed_form_velocity(Z, DATA, noise, 0.5, 0.3))
    np.testing.assert_allclose(smooth.velocity(Z, 0.5), expected, rtol=1e-4, atol=1e-5)
    whole = ClosedFormDiffusion(DATA, 0.3, 2, neighbors=3, random_neighbors=4, seed=5)
    np.testing.assert_allclose(whole.velocity(Z, 0.5), expected, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(closed_form, "_ENTRIES", 14)  # A point at a time.
    again = ClosedFormDiffusion(DATA, 0.3, num_noise=2, seed=5)
    np.testing.assert_allclose(again.velocity(Z, 0.5), expected, rtol=1e-4, atol=1e-5)
    drawn = ClosedFormDiffusion(DATA.reshape(7, 2, 1), seed=0).sample(3, steps=10)
    assert drawn.shape == (3, 2, 1)
    assert ClosedFormDiffusion(DATA).sample(0).shape == (0, 2)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: closed_form_score(Z, DATA, time=1.0), "`time` must be a number"),
        (lambda: closed_form_score(Z, DATA, smoothing=0.1), "needs `noise`"),
        (lambda: closed_form_score(Z, DATA, normal(3, 5, 2), 0.5, 0.1), "Expected noise"),
        (lambda: closed_form_score(Z, DATA[:, :1]), "of the same shape but"),
        (lambda: closed_form_sample(Z, DATA, steps=0), "`steps` must be an integer"),
        (lambda: nearest_neighbor_score(Z, DATA, [0], 0.5, 8), "`neighbors` must be an integer"),
        (lambda: nearest_neighbor_score(Z, DATA, [0, 1], 0.5, 6), "must be at most 1"),
        (lambda: ClosedFormDiffusion(DATA[:0]), "at least one"),
        (lambda: ClosedFormDiffusion(DATA, neighbors=5, random_neighbors=3), "random_neighbors"),
        (lambda: ClosedFormDiffusion(DATA).score(Z[:, :1], 0.5), "Expected points like"),
        (lambda: ClosedFormDiffusion(DATA).sample(2, start_time=1.0), "`start_time` must be"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def discrepancy(a, b):
    """Squared distance of the means of features, by the kernel of Gaussians."""

    def kernel(a, b):
        gaps = np.sum((a[:, None] - b[None]) ** 2, axis=-1)
        return np.mean(np.exp(-gaps / (2 * 0.5**2)))

    return kernel(a, a) + kernel(b, b) - 2 * kernel(a, b)


@pytest.mark.rotating
def test_smoothing_draws_new_points_of_the_same_density():
    from sklearn.datasets import make_moons

    moons = make_moons(400, noise=0.05, random_state=0)[0]
    moons = ((moons - moons.mean(axis=0)) / moons.std(axis=0)).astype("float32")
    train, held_out = moons[:200], moons[200:]
    distances, gaps = [], []
    for smoothing in (0.0, 0.05, 0.15):
        drawn = ClosedFormDiffusion(train, smoothing, num_noise=4, seed=0).sample(200, steps=100)
        nearest = np.sqrt(np.sum((drawn[:, None] - train[None]) ** 2, axis=-1)).min(axis=1)
        distances.append(nearest.mean())
        gaps.append(discrepancy(drawn, held_out))
    assert distances[0] < 0.1 * distances[1] and distances[1] < 0.6 * distances[2], distances
    assert max(gaps) < 0.02, gaps
    assert discrepancy(np.random.default_rng(0).normal(size=(200, 2)), held_out) > 2 * max(gaps)
