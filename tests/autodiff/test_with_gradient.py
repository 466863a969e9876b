"""Functions with a rule of their own for the gradient, which is differentiable again."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_regularize as kr
from keras_regularize.autodiff import backend
from keras_regularize.testing._common import fused
from tests.helpers import array

pytestmark = pytest.mark.everywhere

#: `a · exp(x)`; its rule uses the output, and doubles the gradient so that it shows.
scaled_exp = backend.with_gradient(
    lambda a, x: a * ops.exp(x),
    lambda inputs, output, cotangent: (cotangent * output / inputs[0], 2.0 * cotangent * output),
)


def test_the_rule_is_that_of_every_order():
    x, a = np.array([0.3, -1.0], "float32"), np.array([2.0, 3.0], "float32")
    first = kr.autodiff.grad(lambda x, a: ops.sum(scaled_exp(a, x)))
    second = kr.autodiff.grad(lambda x, a: ops.sum(first(x, a)))
    third = kr.autodiff.grad(lambda x, a: ops.sum(second(x, a)))

    def derivatives(x, a):
        mixed = kr.autodiff.grad(lambda a: ops.sum(first(x, a)))
        return scaled_exp(a, x), first(x, a), second(x, a), third(x, a), mixed(a)

    value = a * np.exp(x)
    expected = (value, 2 * value, 4 * value, 8 * value, 2 * np.exp(x))
    for got, wanted in zip(map(array, fused(derivatives)(x, a)), expected):
        np.testing.assert_allclose(got, wanted, rtol=1e-5)
    # Where nothing is compiled, and where one of the inputs is a constant.
    tensors = ops.convert_to_tensor(x), ops.convert_to_tensor(a)
    np.testing.assert_allclose(array(first(*tensors)), 2 * value, rtol=1e-5)
    np.testing.assert_allclose(array(scaled_exp(ops.ones(2), tensors[0])), np.exp(x), rtol=1e-5)


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="no forward mode")
def test_forward_mode():
    """By the rule on PyTorch, by the operations on TensorFlow: a rule is to be the true gradient."""
    exp = backend.with_gradient(ops.exp, lambda inputs, output, cotangent: (cotangent * output,))
    x = ops.convert_to_tensor([0.3, -1.0])
    _, product = kr.autodiff.jvp(exp, x, 2.0 * ops.ones(2))
    np.testing.assert_allclose(array(product), 2 * np.exp(array(x)), rtol=1e-5)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_is_a_loop(reverse):
    def step(carry, given):
        (total,), (x, y) = carry, given
        total = 0.5 * total + x * y
        return (total,), total

    x, y = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32")
    got = array(fused(lambda x, y: backend.scan(step, (x[0] * 0.0,), (x, y), reverse))(x, y))
    total, expected = 0.0, []
    for a, b in zip(x[::-1] if reverse else x, y[::-1] if reverse else y):
        total = 0.5 * total + a * b
        expected.append(total)
    np.testing.assert_allclose(got, expected[::-1] if reverse else expected, rtol=1e-5)
