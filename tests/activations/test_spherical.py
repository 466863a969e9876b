import math

import numpy as np
import pytest

from keras_regularize.activations import entmax, sparsemax, spherical_softmax, taylor_softmax
from keras_regularize.testing._common import to_numpy

X = np.random.default_rng(0).normal(0, 3, (3, 4)).astype("float32")


@pytest.mark.parametrize("order", [2, 4, 8])
def test_taylor_softmax_equals_the_polynomial(order):
    x = X.astype("float64")
    f = sum(x**n / math.factorial(n) for n in range(order + 1))
    expected = f / f.sum(-1, keepdims=True)
    np.testing.assert_allclose(to_numpy(taylor_softmax(X, order=order)), expected, rtol=1e-4)
    np.testing.assert_allclose(
        to_numpy(taylor_softmax(X.T, axis=0, order=order)).T, expected, rtol=1e-4
    )


def test_spherical_softmax_sees_neither_sign_nor_scale():
    p = to_numpy(spherical_softmax(X))
    np.testing.assert_allclose(p, X**2 / (X**2).sum(-1, keepdims=True), rtol=1e-4)
    np.testing.assert_allclose(to_numpy(spherical_softmax(-7 * X)), p, rtol=1e-4)
    np.testing.assert_allclose(to_numpy(spherical_softmax(X.T, axis=0)).T, p, rtol=1e-5)
    np.testing.assert_allclose(to_numpy(spherical_softmax(np.zeros((1, 4), "float32"))), 0.25)


@pytest.mark.parametrize("function", [spherical_softmax, taylor_softmax, entmax, sparsemax])
def test_integer_scores_have_floating_probabilities(function):
    p = to_numpy(function([[2, 1, 2]]))
    assert p.dtype == "float32" and p.sum() == pytest.approx(1)
    np.testing.assert_array_equal(p, to_numpy(function(np.array([[2.0, 1.0, 2.0]], "float32"))))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: taylor_softmax(X, order=3), "`order` must be even. Received: order=3"),
        (lambda: taylor_softmax(X, order=0), "`order` must be an integer of at least 2"),
        (lambda: spherical_softmax(X, epsilon=0), "`epsilon` must be a number above 0. Received"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
