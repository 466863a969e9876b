"""Metrics of boundaries against masks of SciPy."""

import numpy as np
import pytest
from scipy import ndimage

import keras_regularize as kr
from tests.helpers import normal


def distance(y, p, sampling):
    """By the distances of all pairs of boundary pixels."""
    if not y.any() or not p.any():
        return np.linalg.norm(np.multiply(y.shape, sampling))
    a, b = (np.argwhere(m & ~ndimage.binary_erosion(m)) * np.float64(sampling) for m in (y, p))
    pairs = np.linalg.norm(a[:, None] - b[None], axis=-1)
    return max(np.percentile(pairs.min(0), 95), np.percentile(pairs.min(1), 95))


def mean_distance(ids, predicted, classes, sampling):
    means = []
    for c in classes:
        pairs = [(y == c, p == c) for y, p in zip(ids, predicted)]
        there = [distance(y, p, sampling) for y, p in pairs if y.any() or p.any()]
        means += [np.mean(there)] if there else []
    return np.mean(means)


def boundary(mask, reach):
    box = np.ones((2 * reach + 1,) * mask.ndim)
    return mask & ~ndimage.binary_erosion(mask, box)


def iou(ids, predicted, classes, reach):
    ratios = []
    for c in classes:
        y, p = (np.stack([boundary(m == c, reach) for m in masks]) for masks in (ids, predicted))
        ratios += [(y & p).sum() / (y | p).sum()] if (y | p).any() else []
    return np.mean(ratios)


def blobs():
    """Ids and scores of four classes, of which the third is in two images and the last in none."""
    scores = ndimage.gaussian_filter(normal(4, 13, 17, 4), (0, 1.5, 1.5, 0))
    noisy = scores + ndimage.gaussian_filter(normal(4, 13, 17, 4, seed=1), (0, 1, 1, 0)) / 3
    for s in (scores, noisy):
        s[:2, ..., 2], s[..., 3] = -9.0, -9.0
    noisy[3, ..., 1] = -9.0  # Labelled and not predicted.
    return scores.argmax(-1), noisy


@pytest.mark.everywhere
def test_hausdorff_distance_is_that_of_all_pairs():
    ids, scores = blobs()
    metric = kr.metrics.HausdorffDistance95(4, sampling=[1.0, 2.0])
    for part in (slice(0, 1), slice(1, 4)):
        metric.update_state(ids[part, ..., None].astype("uint8"), scores[part])
    expected = mean_distance(ids, scores.argmax(-1), (1, 2), [1.0, 2.0])
    np.testing.assert_allclose(float(metric.result()), expected, rtol=1e-5)
    metric.reset_state()
    assert float(metric.result()) == 0.0
    metric.update_state(ids[1:], scores[1:], sample_weight=np.array([1.0, 0.0, 1.0]))
    expected = mean_distance(ids[1::2], scores[1::2].argmax(-1), (1, 2), [1.0, 2.0])
    np.testing.assert_allclose(float(metric.result()), expected, rtol=1e-5)


@pytest.mark.everywhere
def test_boundary_iou_is_that_of_eroded_masks():
    ids, scores = blobs()
    metric = kr.metrics.BoundaryIoU(4, dilation_ratio=0.1)  # Two pixels of a diagonal of 21.4.
    for part in (slice(0, 1), slice(1, 4)):
        metric.update_state(ids[part, ..., None].astype("uint8"), scores[part])
    expected = iou(ids, scores.argmax(-1), range(4), 2)
    np.testing.assert_allclose(float(metric.result()), expected, rtol=1e-6)
    metric.reset_state()
    assert float(metric.result()) == 0.0
    metric.update_state(ids[1:], scores[1:], sample_weight=np.array([1.0, 0.0, 1.0]))
    expected = iou(ids[1::2], scores[1::2].argmax(-1), range(4), 2)
    np.testing.assert_allclose(float(metric.result()), expected, rtol=1e-6)


@pytest.mark.parametrize("rank", [1, 3])
def test_other_numbers_of_axes(rank):
    ids, scores = (
        np.arange(2 * 6**rank).reshape(2, *(6,) * rank) % 7 % 2,
        normal(2, *(6,) * rank, 2),
    )
    metric = kr.metrics.BoundaryIoU(2)
    metric.update_state(ids, scores)
    expected = iou(ids, scores.argmax(-1), range(2), 1)
    np.testing.assert_allclose(float(metric.result()), expected, rtol=1e-6)
    metric = kr.metrics.HausdorffDistance95(2)
    metric.update_state(ids, scores)
    expected = mean_distance(ids, scores.argmax(-1), [1], [1.0] * rank)
    np.testing.assert_allclose(float(metric.result()), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "metric",
    [
        kr.metrics.HausdorffDistance95(3, include_background=True, ignore_class=255),
        kr.metrics.BoundaryIoU(3, ignore_class=255),
    ],
    ids=["distance", "iou"],
)
def test_pixels_to_ignore_belong_to_no_mask(metric):
    ids, scores = blobs()
    scores = scores[..., :3]
    ids[:, 4:7] = 255
    predicted = np.where(ids == 255, 255, scores.argmax(-1))
    scores[:, 4:6] = np.nan  # Not looked at.
    metric.reset_state()
    metric.update_state(ids.astype("uint8"), scores)
    if isinstance(metric, kr.metrics.BoundaryIoU):
        expected = iou(ids, predicted, range(3), 1)
    else:
        expected = mean_distance(ids, predicted, range(3), [1.0, 1.0])
    np.testing.assert_allclose(float(metric.result()), expected, rtol=1e-5)
    scores[2, 0, 0] = np.nan
    metric.update_state(ids.astype("uint8"), scores)
    assert np.isnan(float(metric.result()))


def test_empty_and_full_masks_of_one_channel():
    empty, full = np.zeros((1, 3, 4), "int32"), np.ones((1, 3, 4), "int32")
    distance = kr.metrics.HausdorffDistance95(2)
    overlap = kr.metrics.BoundaryIoU(2, include_background=False)
    for ids, score, far, share in (
        (empty, 0.0, 0.0, 0.0),
        (empty, 1.0, 5.0, 0.0),
        (full, 1.0, 0.0, 1.0),
    ):
        for metric, expected in ((distance, far), (overlap, share)):
            metric.reset_state()
            metric.update_state(ids, np.full((1, 3, 4, 1), score, "float32"))
            assert float(metric.result()) == expected
            with pytest.raises(ValueError, match="predictions of 2 classes"):
                metric.update_state(ids, np.zeros((1, 3, 4, 3), "float32"))
            with pytest.raises(ValueError, match="known sizes of space"):
                metric.update_state(ids[:, 0, 0], np.zeros((1, 2), "float32"))
