"""Panoptic quality against a loop over all pairs of segments."""

import keras
import numpy as np
import pytest

import keras_regularize as kr


def by_hand(y_true, y_pred, classes, stuff, void):
    y_true, y_pred = (np.array(y, "int64") for y in (y_true, y_pred))
    overlaps, counts = np.zeros(classes), np.zeros(classes)
    for image in range(len(y_true)):
        maps = []
        for y in (y_true[image], y_pred[image]):
            y[..., 1][np.isin(y[..., 0], stuff)] = 0
            ids = {tuple(pair) for pair in y.reshape(-1, 2) if pair[0] != void}
            maps.append({pair: (y == pair).all(-1) for pair in ids})
        unlabelled = y_true[image][..., 0] == void
        matched = set()
        for g, mask in maps[0].items():
            for p, other in maps[1].items():
                iou = (mask & other).sum() / ((mask | other) & ~(unlabelled & other)).sum()
                if g[0] == p[0] and iou > 0.5:
                    overlaps[g[0]] += iou
                    counts[g[0]] += 1
                    matched |= {("true", g), ("false", p)}
        for g in maps[0]:
            counts[g[0]] += 0.5 * (("true", g) not in matched)
        for p, other in maps[1].items():
            if ("false", p) not in matched and (unlabelled & other).sum() <= 0.5 * other.sum():
                counts[p[0]] += 0.5
    return (overlaps[counts > 0] / counts[counts > 0]).mean()


def panoptic(seed=0):
    """Pairs of ids with some segments found, some split and some missed; class 3 is nowhere."""
    rng = np.random.default_rng(seed)
    blocks = np.stack([rng.integers(0, 3, (4, 3, 4)), rng.integers(0, 5, (4, 3, 4))], -1)
    y_true = blocks.repeat(4, 1).repeat(4, 2)
    moved = rng.uniform(size=y_true.shape[:3]) < 0.25
    y_pred = np.where(moved[..., None], np.roll(y_true, 2, axis=2), y_true)
    y_pred[1] = np.roll(y_true[1], 3, axis=1)
    y_true[:, 6:8, ..., 0] = 255
    y_pred[2, :2, ..., 0] = 255
    return y_true.astype("uint8"), y_pred.astype("float32")


@pytest.mark.everywhere
def test_the_quality_is_that_of_all_pairs():
    y_true, y_pred = panoptic()
    metric = kr.metrics.PanopticQuality(4, max_instances=6, stuff=[0], ignore_class=255)
    for part in (slice(0, 1), slice(1, 4)):
        metric.update_state(y_true[part], y_pred[part])
    expected = by_hand(y_true, y_pred, 4, [0], 255)
    assert 0.2 < expected < 0.8
    np.testing.assert_allclose(float(metric.result()), expected, rtol=1e-6)
    metric.reset_state()
    assert float(metric.result()) == 0.0
    metric.update_state(y_true[1:], y_pred[1:], sample_weight=np.array([1.0, 0.0, 1.0]))
    expected = by_hand(y_true[1::2], y_pred[1::2], 4, [0], 255)
    np.testing.assert_allclose(float(metric.result()), expected, rtol=1e-6)


def test_names_of_instances_do_not_matter():
    y_true, y_pred = panoptic(1)
    metric = kr.metrics.PanopticQuality(3, max_instances=6, ignore_class=255)
    metric.update_state(y_true, y_pred)
    expected = float(metric.result())
    y_pred[..., 1] = 5 - y_pred[..., 1]
    metric.reset_state()
    metric.update_state(y_true, y_pred)
    np.testing.assert_allclose(float(metric.result()), expected, rtol=1e-6)


def test_images_without_a_label_and_ids_that_are_none():
    y_true, y_pred = panoptic()
    metric = kr.metrics.PanopticQuality(3, max_instances=6, ignore_class=255)
    empty = np.full_like(y_true, 255)
    metric.update_state(empty, y_pred)
    assert float(metric.result()) == 0.0  # Nothing counts.
    metric.update_state(y_true, empty)
    assert float(metric.result()) == 0.0  # All is missed.
    for index, bad in ((0, 3), (1, 6)):
        wrong = y_true.copy()
        wrong[0, 0, 0, index] = bad
        with pytest.raises(ValueError, match="class ids from 0 to 2 and instance ids from 0 to 5"):
            metric.update_state(wrong, y_pred)
    y_pred[0, 0, 0, 1] = np.nan
    metric.update_state(y_true, y_pred)
    assert np.isnan(float(metric.result()))
    with pytest.raises(ValueError, match="pairs of class and instance ids"):
        metric.update_state(y_true[..., 0], y_pred)
    with pytest.raises(ValueError, match="at most 46339"):
        kr.metrics.PanopticQuality(1000)


@pytest.mark.everywhere
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="Others know the batch size.")
def test_an_unknown_batch_size():
    import tensorflow as tf

    y_true, y_pred = panoptic()
    ids, scores = (y_pred[..., 0].clip(0, 2)).astype("int32"), np.eye(3)[y_true[..., 0].clip(0, 2)]
    for metric, pair in (
        (kr.metrics.PanopticQuality(3, max_instances=6, ignore_class=255), (y_true, y_pred)),
        (kr.metrics.HausdorffDistance95(3), (ids, scores)),
        (kr.metrics.BoundaryIoU(3), (ids, scores)),
    ):
        metric.update_state(*pair)
        expected = float(metric.result())
        assert expected > 0
        metric.reset_state()
        specs = [tf.TensorSpec((None, *x.shape[1:]), x.dtype) for x in pair]
        tf.function(metric.update_state, input_signature=specs)(*pair)
        np.testing.assert_allclose(float(metric.result()), expected, rtol=1e-6)
