import keras
import numpy as np
import pytest
from keras import ops

import keras_regularize as kr
from tests.models.small import network

WEIGHT = np.random.default_rng(0).normal(size=(20, 30)).astype("float32")


class Scaled:
    """The objective `scale · ‖w‖² / 2`, whose gradient is the weights times `scale`."""

    def __init__(self, scale):
        self.scale = scale

    def value_and_grad(self, weights):
        return 0.0, None, [self.scale * w for w in weights]


def batch(*weights):
    return kr.autodiff.Batch(None, variables=[keras.Variable(w) for w in weights])


@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e15])
def test_the_perturbation_does_not_depend_on_the_scale_of_the_loss(scale):
    awp = kr.models.AWP(network(), gamma=0.1)
    weights = [ops.convert_to_tensor(WEIGHT), ops.convert_to_tensor(WEIGHT[0])]
    _, _, (kernel, bias) = awp.gradients(Scaled(scale), weights, batch(WEIGHT, WEIGHT[0]))
    # Along the gradient, which is the weight here, it is 0.1 times as long as the weight.
    np.testing.assert_allclose(ops.convert_to_numpy(kernel) / scale, 1.1 * WEIGHT, rtol=1e-2)
    np.testing.assert_allclose(ops.convert_to_numpy(bias) / scale, WEIGHT[0], rtol=1e-5)


def test_a_kernel_without_gradient_stays():
    awp = kr.models.AWP(network(), gamma=0.1)
    gradients = awp.gradients(Scaled(0.0), [ops.convert_to_tensor(WEIGHT)], batch(WEIGHT))
    assert np.array_equal(ops.convert_to_numpy(gradients[2][0]), 0 * WEIGHT)
