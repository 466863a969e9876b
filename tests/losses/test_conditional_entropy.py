"""Conditional entropy against sums in float64, at its limits and where its logarithm would break."""

import numpy as np
import pytest
from keras import ops

import keras_regularize as kr
from keras_regularize.testing._common import to_numpy, values_and_gradients

evaluate = values_and_gradients(kr.losses.conditional_entropy)


def oracle(logits):
    """Entropies and the gradient of their sum, `-p_k (log p_k + H)`, one row at a time."""
    values, gradients = [], []
    for z in np.asarray(logits, "float64").reshape(-1, logits.shape[-1]):
        p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
        entropy = -sum(q * np.log(q) for q in p if q > 0)
        values.append(entropy)
        gradients.append([-q * (np.log(q) + entropy) if q > 0 else 0.0 for q in p])
    return np.reshape(values, logits.shape[:-1]), np.reshape(gradients, logits.shape)


@pytest.mark.parametrize("shape", [(6, 4), (2, 3, 5), (0, 3), (1, 2)])
def test_equals_a_sum_in_double_precision(shape):
    logits = np.random.default_rng(0).normal(size=shape, scale=3.0).astype("float32")
    value, gradient = evaluate(logits)
    expected = oracle(logits)
    np.testing.assert_allclose(to_numpy(value), expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(to_numpy(gradient), expected[1], rtol=1e-4, atol=1e-6)


def test_limits_and_hard_logits():
    rows = [[0, 0, 0, 0], [1e4, -1e4, 0, 0], [5e3, 5e3, -1e4, -1e4], [-np.inf, 1, 2, -np.inf]]
    value, gradient = evaluate(np.array(rows, "float32"))
    pair = oracle(np.array([[1.0, 2.0]]))[0][0]
    np.testing.assert_allclose(
        to_numpy(value), [np.log(4), 0, np.log(2), pair], rtol=1e-6, atol=1e-7
    )
    assert np.isfinite(to_numpy(gradient)).all()
    np.testing.assert_allclose(to_numpy(gradient)[:3], 0.0, atol=1e-7)


def test_forms_of_logits_agree():
    logits = np.random.default_rng(1).normal(size=(5, 3)).astype("float32")
    expected = to_numpy(kr.losses.conditional_entropy(logits))
    shifted = kr.losses.conditional_entropy(logits + np.float32(7))
    np.testing.assert_allclose(to_numpy(shifted), expected, rtol=1e-5)
    np.testing.assert_allclose(
        to_numpy(kr.losses.conditional_entropy(ops.log_softmax(logits))), expected, rtol=1e-5
    )
    column = kr.losses.conditional_entropy(logits[:, :1])
    two = kr.losses.conditional_entropy(np.concatenate([0 * logits[:, :1], logits[:, :1]], 1))
    np.testing.assert_allclose(to_numpy(column), to_numpy(two), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_summed_in_float32(dtype):
    # 3000 classes: their probabilities are below what float16 holds.
    logits = ops.zeros((2, 3000), dtype=dtype)
    value = kr.losses.conditional_entropy(logits)
    np.testing.assert_allclose(to_numpy(value), np.log(3000), rtol=1e-5)
