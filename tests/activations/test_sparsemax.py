import keras
import numpy as np
import pytest

from keras_regularize.activations import entmax, sparsemax
from keras_regularize.testing._common import to_numpy

X = np.array([[0.5, 0.3, 0.1], [2.0, 0.5, -1.0]], "float32")
PROJECTED = np.array([[8 / 15, 1 / 3, 2 / 15], [1, 0, 0]])


def test_is_the_projection_on_the_simplex():
    np.testing.assert_allclose(to_numpy(sparsemax(X)), PROJECTED, atol=1e-6)
    np.testing.assert_array_equal(to_numpy(sparsemax(X.T, axis=0)), to_numpy(sparsemax(X)).T)
    np.testing.assert_array_equal(to_numpy(sparsemax(X)), to_numpy(entmax(X, alpha=2.0)))


@pytest.mark.xfail(strict=True, reason="Keras 3.15 takes the largest threshold of the wrong set")
def test_keras_own_is_right():
    # Once this passes, `activations.sparsemax` is no longer needed.
    np.testing.assert_allclose(to_numpy(keras.activations.sparsemax(X)), PROJECTED, atol=1e-6)
