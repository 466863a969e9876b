"""Mutual information, Student's t, active boundaries and bins of distances."""

import numpy as np
import pytest
from scipy import ndimage

import keras_regularize as kr
from tests.helpers import array, evaluate_loss, normal

IDS = np.random.default_rng(0).integers(0, 2, (2, 8, 9))
LOGITS = normal(2, 8, 9, 2)


def close(a, b, rtol=2e-5):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6)


def test_mutual_information_leaves_out_pixels_and_wants_two_axes():
    loss = kr.losses.RegionMutualInformation(2, 1, ignore_class=255, reduction="none")
    ids = IDS.copy()
    ids[:, 0, 0] = 255
    wild = LOGITS.copy()
    wild[:, 0, 0] = np.nan
    value, gradient = evaluate_loss(loss, ids, wild)
    assert np.isfinite(value).all()
    np.testing.assert_array_equal(gradient[:, 0, 0], 0.0)
    with pytest.raises(ValueError, match="two axes of space"):
        loss(IDS[:, 0], LOGITS[:, 0])
    with pytest.raises(ValueError, match="at least 3 × 3 pixels"):
        kr.losses.RegionMutualInformation()(IDS[:, :5, :5], LOGITS[:, :5, :5])


@pytest.mark.parametrize("score", [-1e4, 0.0, 1e4])
def test_mutual_information_of_constant_masks_is_finite(score):
    loss = kr.losses.RegionMutualInformation(2, 2, epsilon=1e-3, reduction="none")
    value, gradient = evaluate_loss(loss, 0 * IDS, 0 * LOGITS + score)
    assert np.isfinite(value).all()
    assert np.isfinite(gradient).all()


def test_the_gradient_of_a_mask_that_is_all_wrong_falls():
    loss = kr.losses.TLoss(nu=2.0, reduction="none")
    y, p = np.zeros((3, 4, 4)), np.zeros((3, 4, 4), "float32")
    p[0, 0, 0], p[1, 0], p[2] = 1.0, 1.0, 1.0
    _, gradient = evaluate_loss(loss, y, p)
    squares = (p**2).sum((1, 2), keepdims=True)
    close(gradient, (2 + 16) * p / (2 + squares))
    assert gradient[2, 0, 0] < gradient[1, 0, 0] < gradient[0, 0, 0]
    close(array(loss(y[..., None], p)), array(loss(y, p)))
    with pytest.raises(ValueError, match="equal shapes"):
        loss(y[:, :3], p)


def test_many_degrees_of_freedom_are_the_squared_error():
    errors = normal(2, 3, 4)
    t = array(kr.losses.TLoss(nu=1e6, reduction="none")(0 * errors, errors))
    squares = 0.5 * (errors**2).sum((1, 2))
    np.testing.assert_allclose(t - t[0], squares - squares[0], rtol=1e-3, atol=0.02)


def test_an_active_boundary_without_a_boundary_of_the_target_costs_nothing():
    loss = kr.losses.ActiveBoundary(0.2, reduction="none")
    value, gradient = evaluate_loss(loss, 0 * IDS, LOGITS)
    np.testing.assert_array_equal(value, 0.0)
    np.testing.assert_array_equal(gradient, 0.0)
    value, gradient = evaluate_loss(loss, IDS, 0 * LOGITS)  # No boundary is predicted.
    np.testing.assert_array_equal(value, 0.0)
    with pytest.raises(ValueError, match="two axes of space"):
        loss(IDS[:, 0], LOGITS[:, 0])


@pytest.mark.parametrize("scale", [30.0, 1e4])
def test_an_active_boundary_is_finite_where_predictions_are_certain(scale):
    loss = kr.losses.ActiveBoundary(0.2, reduction="none")
    value, gradient = evaluate_loss(loss, IDS, scale * np.sign(LOGITS))
    assert np.isfinite(value).all()
    assert np.isfinite(gradient).all()


@pytest.mark.everywhere
def test_bins_of_distances_and_the_mask_they_make():
    mask = np.zeros((2, 12, 11), "int32")
    mask[0, 1:9, 1:10] = 1
    mask[0, 4, 9] = 0
    mask[1] = 1  # Without an outside.
    bins = array(kr.losses.distance_bins(mask, num_bins=3, truncation=4.5))
    depth = np.ceil(ndimage.distance_transform_edt(mask[0]) - 1)
    index = np.minimum(np.floor(depth * 3 / 4.5), 2).astype(int)
    index = np.where(mask[0] > 0, index, -1)
    np.testing.assert_array_equal(bins[0], index[..., None] == np.arange(3))
    np.testing.assert_array_equal(bins[1], np.broadcast_to([0, 0, 1], (12, 11, 3)))
    decoded = array(kr.losses.mask_from_distance_bins(bins, truncation=4.5))
    np.testing.assert_array_equal(decoded, mask > 0)
    p = np.random.default_rng(0).uniform(0.05, 0.95, (2, 12, 11, 3)).astype("float32")
    loss = kr.losses.BoundaryAware(3, 4.5, reduction="none")
    expected = -(bins * np.log(p) + (1 - bins) * np.log(1 - p)).sum(-1).mean((1, 2))
    close(array(loss(mask, p)), expected)
    logits = np.log(p / (1 - p))
    loss = kr.losses.BoundaryAware(3, 4.5, from_logits=True, ignore_class=255, reduction="none")
    close(array(loss(mask[..., None], logits)), expected)
    with pytest.raises(ValueError, match=r"\(batch, \*spatial, 3\)"):
        loss(mask, logits[..., :2])


@pytest.mark.once
def test_rare_classes_weigh_more():
    weights = kr.losses.class_weights_from_frequencies([900, 90, 10])
    close(weights, [np.sqrt(1000 / 900), np.sqrt(1000 / 90), 10.0])
    close(kr.losses.class_weights_from_frequencies([0.9, 0.09, 0.01], 1.0)[2], 100.0)
    with pytest.raises(ValueError, match="positive"):
        kr.losses.class_weights_from_frequencies([1, 0])
