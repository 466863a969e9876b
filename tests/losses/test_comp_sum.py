import keras
import numpy as np
import pytest
from keras import ops

from keras_regularize.losses import CompSum
from keras_regularize.testing._common import fused, values_and_gradients

RNG = np.random.default_rng(0)
Z = (2 * RNG.normal(size=(7, 5))).astype("float32")
Y = RNG.integers(0, 5, 7)
TAUS = [0.0, 0.5, 1.0, 1.6, 2.0, 3.0]


def oracle(y, z, tau):
    """From the margins, as the paper writes it."""
    values = []
    for label, row in zip(y, np.asarray(z, "float64")):
        u = sum(np.exp(row[j] - row[label]) for j in range(len(row)) if j != label)
        values.append(np.log1p(u) if tau == 1 else ((1 + u) ** (1 - tau) - 1) / (1 - tau))
    return np.array(values)


def values(y, z, *taus):
    run = fused(lambda y, z: [CompSum(tau, reduction="none")(y, z) for tau in taus])
    return [ops.convert_to_numpy(v) for v in run(y, z)]


def test_the_family():
    soft = RNG.dirichlet(np.ones(5), 7).astype("float32")
    for tau, value, of_soft in zip(TAUS, values(Y, Z, *TAUS), values(soft, Z, *TAUS)):
        np.testing.assert_allclose(value, oracle(Y, Z, tau), rtol=1e-4)
        mixed = sum(soft[:, k] * oracle([k] * 7, Z, tau) for k in range(5))
        np.testing.assert_allclose(of_soft, mixed, rtol=1e-4)


def test_its_members_have_names():
    p = np.exp(Z) / np.exp(Z).sum(-1, keepdims=True)
    own = p[np.arange(7), Y]
    exponential, generalized, error = values(Y, Z, 0.0, 1.7, 2.0)
    np.testing.assert_allclose(exponential, 1 / own - 1, rtol=1e-4)
    np.testing.assert_allclose(error, 1 - own, rtol=1e-4)
    reference = keras.losses.CategoricalGeneralizedCrossEntropy(q=0.7, reduction="none")
    np.testing.assert_allclose(generalized, ops.convert_to_numpy(reference(Y, p)), rtol=1e-4)


def test_the_gradient_weighs_cross_entropy_by_the_probability_of_the_label():
    def total(z):
        return sum(CompSum(tau, reduction="none")(Y, z) for tau in TAUS)

    _, gradient = values_and_gradients(total)(Z)
    p = np.exp(Z.astype("float64"))
    p = p / p.sum(-1, keepdims=True)
    own = p[np.arange(7), Y][:, None]
    expected = sum(own ** (tau - 1) for tau in TAUS) * (p - np.eye(5)[Y])
    np.testing.assert_allclose(ops.convert_to_numpy(gradient), expected, rtol=1e-4, atol=1e-5)


def test_is_continuous_at_cross_entropy():
    middle, *around = values(Y, Z, 1.0, 1 - 1e-9, 1 + 1e-9, 1 - 1e-3, 1 + 1e-3)
    for value in around[:2]:
        np.testing.assert_allclose(value, middle, rtol=1e-6)
    for value, step in zip(around[2:], (-1e-3, 1e-3)):
        # The next term of the series in tau - 1.
        np.testing.assert_allclose(value, middle - step * middle**2 / 2, rtol=1e-4)


def test_does_not_see_a_constant_in_the_logits():
    for a, b in zip(values(Y, Z, *TAUS), values(Y, Z + 30, *TAUS)):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_extreme_logits_keep_value_and_gradient():
    wrong = np.where(np.eye(5)[Y] > 0, -1e4, 1e4).astype("float32")
    rows = np.eye(5, dtype="float32")[Y]
    z = np.concatenate([wrong, -wrong, 0 * wrong, wrong])
    y = np.concatenate([rows, rows, rows, np.full_like(rows, 0.2)])

    def total(z):
        return sum(CompSum(tau, reduction="none")(y, z) for tau in TAUS)

    value, gradient = (ops.convert_to_numpy(a) for a in values_and_gradients(total)(z))
    assert np.isfinite(value).all() and np.isfinite(gradient).all()
    assert (
        gradient[:7][rows > 0] < -1e20
    ).all()  # Still steep where the sum-exponential overflows.
    np.testing.assert_allclose(value[7:14], 0, atol=1e-6)


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="`tau` must be a number at least 0. Received: tau=-0.5"):
        CompSum(-0.5)
    with pytest.raises(ValueError, match="Expected class labels"):
        CompSum()(np.zeros((3, 4)), np.zeros((3, 5)))
    assert CompSum.from_logits
