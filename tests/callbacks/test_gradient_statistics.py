"""The noise of gradients in the logs of a training."""

import keras
import numpy as np
import pytest

import keras_regularize as kr

X = np.random.default_rng(0).normal(size=(24, 3)).astype("float32")


def test_the_logs_are_those_of_the_function():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    noise = kr.callbacks.GradientStatistics(X, X[:, :1] ** 2, every=2)
    history = model.fit(X, X[:, :1] ** 2, epochs=2, callbacks=[noise], verbose=0).history
    expected = kr.analysis.gradient_statistics(model, X, X[:, :1] ** 2, learning_rate=0.1)
    for name in ("noise_scale", "trace_covariance", "gap_change"):
        assert history[name] == [pytest.approx(getattr(expected, name), rel=1e-6)]


@pytest.mark.once
def test_bad_arguments():
    with pytest.raises(ValueError, match="`every` must be"):
        kr.callbacks.GradientStatistics(X, X, every=0)
    with pytest.raises(ValueError, match="`method` must be one of"):
        kr.callbacks.GradientStatistics(X, X, method="three_batch")
