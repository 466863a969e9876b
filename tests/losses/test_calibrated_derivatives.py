"""losses.calibrated_derivatives: slopes of a convex loss that falls everywhere."""

import numpy as np
import pytest
from keras import ops

import keras_regularize as kr

RNG = np.random.RandomState(0)


def slopes(margins, noise, box_cox=0.0):
    values = kr.losses.calibrated_derivatives(
        np.asarray(margins, "float32"), np.asarray(noise, "float32"), box_cox
    )
    return ops.convert_to_numpy(values)


def inverse(u, power):
    if power == 0:
        return np.exp(u)
    base = np.maximum(1 + power * u, 0)
    return np.where(base > 0, np.maximum(base, 1e-300) ** (1 / power), 0.0 if power > 0 else np.inf)


@pytest.mark.parametrize("power", [-2.0, -0.3, 1e-4, 1.0, 5.0])
def test_equals_a_loop(power):
    margins, noise = 2 * RNG.normal(size=40), RNG.normal(size=40)
    drawn = np.sort(np.maximum(-inverse(noise, power), -1.0))
    expected = np.zeros(40)
    for slope, i in zip(drawn, np.argsort(margins)):
        expected[i] = slope / max(margins[i], 1.0) - 1e-6
    np.testing.assert_allclose(slopes(margins, noise, power), expected, rtol=2e-4, atol=1e-6)


def test_slopes_are_of_a_convex_loss_that_falls():
    margins, noise = np.sort(3 * RNG.normal(size=50)), RNG.normal(size=50)
    d = slopes(margins, noise, ops.convert_to_tensor(0.5))
    assert (d < 0).all() and (d >= -1 - 2e-6).all()
    assert (np.diff(d) >= 0).all()
    order = RNG.permutation(50)
    np.testing.assert_array_equal(slopes(margins[order], noise, 0.5), d[order])
    np.testing.assert_array_equal(slopes(margins, noise[order], 0.5), d)


@pytest.mark.parametrize("power", [-1.0, 0.0, 1.0])
def test_extremes_are_finite(power):
    margins = [1e4, -1e4, 0.0, 0.0, 6e4]
    d = slopes(margins, [1e4, -1e4, -1.0, 1.0, 0.0], power)
    assert np.isfinite(d).all() and (d < 0).all() and d[1] == np.float32(-1 - 1e-6)
    half = kr.losses.calibrated_derivatives(
        np.asarray(margins, "float16"), np.zeros(5, "float16"), power
    )
    assert np.isfinite(ops.convert_to_numpy(half)).all()
    assert slopes([], [], power).shape == (0,)
    assert slopes([0.5], [-1.0], 0.0) == pytest.approx(-np.exp(-1) - 1e-6)


def test_no_gradient_and_bad_shapes():
    margins = ops.convert_to_tensor(np.array([0.5, 2.0], "float32"))
    gradient = kr.autodiff.grad(
        lambda s: ops.sum(kr.losses.calibrated_derivatives(s, ops.zeros((2,))) * s)
    )(margins)
    np.testing.assert_allclose(ops.convert_to_numpy(gradient), slopes([0.5, 2.0], [0, 0]))
    with pytest.raises(ValueError, match="Expected margins and noise of shape .batch,."):
        slopes([[0.5]], [0.0])
    for margins, noise in (([0.5, 1.0], [0.0, 1.0, 2.0]), ([0.5, 1.0], [0.0])):
        with pytest.raises(ValueError, match=r"Received: margins.shape=\(2,\), noise.shape"):
            slopes(margins, noise)
