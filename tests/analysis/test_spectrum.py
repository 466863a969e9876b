"""Singular values of kernels against NumPy's, and what they say of known matrices."""

import keras
import numpy as np
import pytest

from keras_regularize.analysis import effective_rank, spectral_norms


def test_effective_rank_equals_the_entropy_of_the_shares():
    w = np.random.default_rng(0).normal(size=(2, 3, 5))
    s = np.linalg.svd(w.reshape(6, 5), compute_uv=False)
    p = s / s.sum()
    expected = np.prod(p**-p)
    assert effective_rank(w) == pytest.approx(expected, rel=1e-10)
    assert effective_rank(keras.ops.convert_to_tensor(1e3 * w, "float32")) == pytest.approx(
        expected, rel=1e-5
    )


def test_effective_rank_of_known_matrices():
    assert effective_rank(np.eye(5)) == pytest.approx(5.0)
    assert effective_rank(np.outer(np.arange(1, 4), np.arange(1, 6))) == pytest.approx(1.0)
    assert effective_rank(np.zeros((3, 2))) == 0.0
    assert effective_rank(np.array([3.0, 4.0])) == 1.0
    with pytest.raises(ValueError, match="`kernel` must have entries"):
        effective_rank(np.zeros((0, 2)))


def test_spectral_norms_are_those_of_the_kernels():
    model = keras.Sequential(
        [keras.Input((6, 6, 2)), keras.layers.Conv2D(3, 2), keras.layers.BatchNormalization()]
    )
    kernel, bias, *_ = model.get_weights()
    norms = spectral_norms(model)
    assert list(norms) == [model.weights[0].path]
    expected = np.linalg.norm(kernel.reshape(-1, 3), 2)
    assert next(iter(norms.values())) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="needs a built model"):
        spectral_norms(keras.Sequential([keras.layers.Dense(2)]))


def test_what_is_not_finite_gives_nan():
    for bad in (np.nan, np.inf):
        kernel = np.where(np.eye(4) > 0, bad, 1.0)
        assert np.isnan(effective_rank(kernel))
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4)])
        model.set_weights([kernel, np.zeros(4)])
        assert np.isnan(list(spectral_norms(model).values())).all()
