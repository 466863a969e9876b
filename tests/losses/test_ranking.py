"""Losses of lists: padding by relevance and by mask, ties, extreme scores, and what they are good for."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from sklearn.metrics import ndcg_score

import keras_regularize as kr
from keras_regularize.autodiff import backend
from keras_regularize.testing._common import values_and_gradients
from tests.helpers import array, evaluate_loss, normal

KINDS = [kr.losses.ListNet, kr.losses.ListMLE, kr.losses.PairwiseLogistic]
kinds = pytest.mark.parametrize("kind", KINDS)
Y = np.array([[3, 0, 1, 2, 1], [0, 0, 1, 0, 4], [2, 2, 2, 2, 2]], "int32")
S = normal(3, 5)


@kinds
def test_padding_has_no_part_wherever_it_is(kind):
    loss = kind(reduction="none")
    expected, slope = evaluate_loss(loss, Y, S)
    where = [0, 2, 3, 5, 6]
    y, s = np.full((3, 7), -1, "int32"), np.full((3, 7), np.nan, "float32")
    y[:, where], s[:, where] = Y, S
    value, gradient = evaluate_loss(loss, y, s)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient[:, where], slope, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(gradient[:, [1, 4]], 0.0)
    value, gradient = evaluate_loss(loss, 0 * Y - 1, S)
    np.testing.assert_array_equal(value, 0.0)
    np.testing.assert_array_equal(gradient, 0.0)
    column = array(loss(y[..., None].astype("float32"), s[..., None]))
    np.testing.assert_allclose(column, expected, rtol=1e-5, atol=1e-6)
    wrong = Y.astype("float32")
    wrong[0, 1] = np.nan
    assert np.isnan(array(loss(wrong, S))).tolist() == [True, False, False]


@kinds
def test_a_mask_of_items_is_padding(kind):
    x = normal(3, 5, 2)
    x[0, 3:] = x[2, 1] = 0.0
    mask = (x != 0).any(-1)
    net = keras.Sequential([keras.Input((None, 2)), layers.Masking(), layers.Dense(1)])
    scores = array(net(x))[..., 0]
    weight = np.array([1.0, 0.5, 2.0], "float32")
    each = array(kind(reduction="none")(np.where(mask, Y, -1), scores))
    for y in (Y, Y[..., None]):
        found = array(kind(reduction="none")(y, net(x), sample_weight=weight))
        np.testing.assert_allclose(found, weight * each, rtol=1e-5, atol=1e-6)
    net.compile("sgd", kind())
    found = net.evaluate(x, Y, sample_weight=weight, verbose=0)
    assert found == pytest.approx((weight * each).mean(), rel=1e-5)
    with pytest.raises(ValueError, match="Expected a weight for each value or sample"):
        kind()(Y, S, sample_weight=np.ones((3, 5)))


@kinds
@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_extreme_scores_are_finite(kind, scale):
    for scores in (scale * np.sign(S), scale * (np.argsort(Y, axis=-1) - 2.0)):
        value, gradient = evaluate_loss(kind(reduction="none"), Y, scores)
        assert np.isfinite(value).all()
        assert np.isfinite(gradient).all()
        assert (np.abs(gradient) <= 5).all()


def test_items_of_equal_relevance_are_drawn_in_the_order_they_are_given():
    found = array(kr.losses.ListMLE(reduction="none")(Y, S))
    expected = []
    for y, s in zip(Y, S.astype("float64")):
        ordered = s[sorted(range(5), key=lambda i: -y[i])]  # Python's sort is stable.
        expected.append(sum(np.log(np.exp(ordered[k:]).sum()) - ordered[k] for k in range(5)))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    one = array(kr.losses.ListMLE(reduction="none")(Y[:, :1], S[:, :1]))
    np.testing.assert_allclose(one, 0.0, atol=1e-6)


def test_pairs_without_order_cost_nothing_and_shapes_are_those_of_lists():
    value, gradient = evaluate_loss(kr.losses.PairwiseLogistic(reduction="none"), Y[2:], S[2:])
    np.testing.assert_array_equal(value, 0.0)
    np.testing.assert_array_equal(gradient, 0.0)
    for y, s in ((Y[0], S[0]), (Y[:, 0], S[:, :1]), (Y, S[:, :4]), (Y[None], S[None])):
        with pytest.raises(ValueError, match=r"Received: y_true.shape="):
            kr.losses.ListNet()(y, s)


@pytest.mark.everywhere
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cumulative_sums_of_exponentials(dtype):
    if dtype == "float64" and keras.backend.backend() == "jax":
        pytest.skip("float64 is a flag of the whole process")
    x = np.array([[-1e4, 3.0, 2.0, 1e4, -1e30], [-1e30, -1e4, 0.5, -0.5, 0.25]], dtype)
    run = values_and_gradients(backend.cumulative_logsumexp)
    value, gradient = (array(part) for part in run(ops.convert_to_tensor(x)))
    expected = np.logaddexp.accumulate(x.astype("float64"), axis=-1)
    assert value.dtype == dtype
    np.testing.assert_allclose(value, expected, rtol=1e-6 if dtype == "float32" else 1e-14)
    shares = np.exp(np.minimum(x[:, None, :] - expected[:, :, None], 0))
    # A thousandth is the last digit of 1e4 in float32.
    rtol = 1e-3 if dtype == "float32" else 1e-10
    np.testing.assert_allclose(gradient, np.tril(shares).sum(1), rtol=rtol)


@pytest.mark.once
def test_a_linear_ranker_gains_by_a_loss_of_lists():
    # What tells the order within a query well has a level of the query's own, which hides it from regression.
    rng = np.random.default_rng(0)
    utility, level = rng.normal(size=(200, 8)), rng.normal(size=(200, 1))
    noise = rng.normal(size=(2, 200, 8))
    x = np.stack([utility + 3 * level + 0.2 * noise[0], utility + 2 * noise[1]], -1)
    y = np.digitize(utility, [0.0, 0.7, 1.4])
    found = {}
    for loss in ["mse", *(kind() for kind in KINDS)]:
        keras.utils.set_random_seed(0)
        net = keras.Sequential([keras.Input((8, 2)), layers.Dense(1), layers.Reshape((8,))])
        net.compile(keras.optimizers.Adam(0.05), loss)
        net.fit(x[:100], y[:100], epochs=10, batch_size=20, verbose=0)
        scores = net.predict(x[100:], verbose=0)
        found[getattr(loss, "name", loss)] = ndcg_score(2.0 ** y[100:] - 1, scores)
    plain = found.pop("mse")
    assert min(found.values()) > plain + 0.1, (plain, found)
