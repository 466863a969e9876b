"""Hyperparameters within their bounds."""

import numpy as np
import pytest

import keras_regularize as kr
from tests.helpers import array, number

BOUNDS = [(None, None), (0.0, 0.9), (0.1, None), (None, 3.0), (-1e3, 1e-3)]


@pytest.mark.parametrize("lower, upper", BOUNDS)
def test_unconstrain_is_the_inverse(lower, upper):
    raw = np.array([-8.0, -1.0, 0.0, 0.3, 5.0])
    values = kr.hyper.constrain(raw, lower, upper)
    assert (np.diff(array(values)) * (1 if upper is None or lower is not None else -1) > 0).all()

    # In float64: near a bound float32 has no more digits.
    def exact(x):
        if lower is not None and upper is not None:
            return (upper - lower) / (1 + np.exp(-x)) + lower
        softplus = np.log1p(np.exp(x))
        return x if lower is upper else (lower + softplus if upper is None else upper - softplus)

    np.testing.assert_allclose(array(values), exact(raw), rtol=1e-5, atol=1e-6)
    back = array(kr.hyper.unconstrain(exact(raw), lower, upper))
    np.testing.assert_allclose(back, raw, rtol=1e-5, atol=1e-5)


def test_integers_come_back():
    values = np.arange(25.0)
    raw = kr.hyper.unconstrain(values, 0, 25, discrete=True)
    np.testing.assert_array_equal(array(kr.hyper.constrain(raw, 0, 25, discrete=True)), values)


def test_entropy_is_that_of_gaussians_and_has_a_gradient_far_below_zero():
    logits = np.array([-200.0, -14.0, 3.0, 50.0], "float32")
    scale = np.log1p(np.exp(logits[1:].astype("float64")))
    expected = np.log(scale).sum() - 200.0 + 4 * 0.5 * np.log(2 * np.pi * np.e)
    np.testing.assert_allclose(number(kr.hyper.perturbation_entropy(logits)), expected, rtol=1e-6)
    gradient = kr.autodiff.grad(kr.hyper.perturbation_entropy)(logits)
    sigmoid = 1 / (1 + np.exp(-logits[1:].astype("float64")))
    np.testing.assert_allclose(array(gradient), [1.0, *(sigmoid / scale)], rtol=1e-5)


def test_what_is_refused():
    for call, words in [
        (lambda: kr.hyper.constrain(0.0, 1.0, 1.0), "below `upper`"),
        (lambda: kr.hyper.constrain(0.0, "a"), "`lower`"),
        (lambda: kr.hyper.constrain(0.0, 0.0, np.inf), "No bound is `None`"),
        (lambda: kr.hyper.unconstrain(3.2, discrete=True), "must be integers"),
        (lambda: kr.hyper.unconstrain([0.1, 0.0], 0.0), "not at these bounds"),
        (lambda: kr.hyper.unconstrain(25, 0, 25, discrete=True), "between"),
        (lambda: kr.hyper.Hyperparameter("rate", 0.9, 0.0, 0.9), "between"),
        (lambda: kr.hyper.Hyperparameter("", 0.5), "`name`"),
        (lambda: kr.hyper.Hyperparameter("rate", 0.5, perturbation_scale=0), "above 0"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()


def test_a_hyperparameter_starts_at_its_value():
    rate = kr.hyper.Hyperparameter("dropout", 0.05, 0.0, 0.9)
    np.testing.assert_allclose(number(rate.constrain(rate.raw_value)), 0.05, rtol=1e-6)
    np.testing.assert_allclose(np.log1p(np.exp(rate.scale_logit)), 0.5, rtol=1e-12)
