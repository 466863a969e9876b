"""A pseudo-Huber loss whose parameter depends on the time step."""

import numpy as np
import pytest

from keras_regularize.generative import pseudo_huber_schedule, scheduled_pseudo_huber
from keras_regularize.losses import PseudoHuber
from keras_regularize.testing._common import fused
from tests.helpers import array, normal

Y, P = normal(3, 4, 5, 2), normal(3, 4, 5, 2, seed=1)
DELTA = np.array([1.0, 0.3, 0.05], "float32")


@pytest.mark.everywhere
@pytest.mark.parametrize("scaling", ["huber", "l2", "l1"])
def test_a_delta_for_each_sample_equals_the_formula(scaling):
    got = fused(lambda y, p, d: scheduled_pseudo_huber(y, p, d, scaling))(Y, P, DELTA)
    delta = DELTA.astype("float64")[:, None, None, None]
    root = np.sqrt((Y - P).astype("float64") ** 2 + delta**2) - delta
    factor = {"huber": delta, "l2": 2 * delta, "l1": 2.0}[scaling]
    np.testing.assert_allclose(array(got), (factor * root).mean((1, 2, 3)), rtol=1e-5)


def test_one_delta_is_the_loss():
    expected = array(PseudoHuber(0.3, reduction="none")(Y, P)).mean((1, 2))
    np.testing.assert_allclose(array(scheduled_pseudo_huber(Y, P, 0.3)), expected, rtol=1e-5)
    vector = scheduled_pseudo_huber(Y[:, 0, 0, 0], P[:, 0, 0, 0], DELTA)
    column = scheduled_pseudo_huber(Y[:, 0, 0, :1], P[:, 0, 0, :1], DELTA)
    np.testing.assert_allclose(array(vector), array(column), rtol=1e-6)
    half = scheduled_pseudo_huber(Y, P.astype("float16"), DELTA.astype("float16"))
    np.testing.assert_allclose(array(half), array(scheduled_pseudo_huber(Y, P, DELTA)), rtol=1e-2)


def test_schedules_fall_from_one_to_delta():
    t = np.arange(10).reshape(2, 5)
    products = np.cumprod(np.linspace(0.999, 0.3, 10))
    for schedule in ("exponential", "snr"):
        given = array(pseudo_huber_schedule(t, 10, 0.1, schedule, products)).ravel()
        assert (np.diff(given) < 0).all() and given[0] > 0.9 and 0.1 < given[-1] < 0.13
    assert (array(pseudo_huber_schedule(t, 10, 0.2, "constant")) == np.float32(0.2)).all()
    assert array(pseudo_huber_schedule(t.astype("uint8"), 10)).shape == (2, 5)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: pseudo_huber_schedule(0, 10, 0.0), "`delta` must be a number above 0"),
        (lambda: pseudo_huber_schedule(0, 10, 2.0), "at most 1"),
        (lambda: pseudo_huber_schedule(0, 0), "`num_timesteps` must be an integer"),
        (lambda: pseudo_huber_schedule(0, 10, schedule="linear"), "`schedule` must be one of"),
        (lambda: pseudo_huber_schedule(0, 10, schedule="snr"), "alphas_cumprod=None"),
        (
            lambda: pseudo_huber_schedule(0, 10, schedule="snr", alphas_cumprod=np.ones(9)),
            r"alphas_cumprod.shape=\(9,\)",
        ),
        (lambda: scheduled_pseudo_huber(Y, P, DELTA[:2]), "`delta_t` must be a number, or one"),
        (lambda: scheduled_pseudo_huber(Y, P, Y), "`delta_t` must be a number, or one"),
        (lambda: scheduled_pseudo_huber(Y, P, 1.0, "l3"), "`scaling` must be one of"),
        (lambda: scheduled_pseudo_huber(Y[0], P, 1.0), "`y_true` must have the shape"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
