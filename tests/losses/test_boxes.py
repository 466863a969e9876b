"""Losses of bounding boxes: formats, degenerate boxes, and what the distance of boxes is good for."""

import numpy as np
import pytest

import keras_regularize as kr
from keras_regularize.testing._common import values_and_gradients
from tests.helpers import array, evaluate_loss

KINDS = [kr.losses.GIoU, kr.losses.DIoU, kr.losses.CIoU]
kinds = pytest.mark.parametrize("kind", KINDS)
RNG = np.random.default_rng(0)
LOW = RNG.uniform(0, 1, (2, 6, 2))
BOXES = np.concatenate([LOW, LOW + RNG.uniform(0.1, 0.8, (2, 6, 2))], -1).astype("float32")
Y, P = BOXES


@kinds
def test_formats_name_the_same_boxes(kind):
    expected = array(kind(reduction="none")(Y, P))
    assert expected.shape == (6,)
    sides = [b[:, 2:] - b[:, :2] for b in (Y, P)]
    corner = [np.concatenate([b[:, :2], s], -1) for b, s in zip((Y, P), sides)]
    centre = [np.concatenate([b[:, :2] + s / 2, s], -1) for b, s in zip((Y, P), sides)]
    for box_format, boxes in (("xywh", corner), ("center_xywh", centre)):
        loss = kind(box_format, reduction="none")
        np.testing.assert_allclose(array(loss(*boxes)), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="`box_format` must be one of 'xyxy', 'xywh'"):
        kind("yxyx")


@kinds
def test_equal_boxes_cost_nothing_and_scale_does_not_matter(kind):
    loss = kind(reduction="none")
    value, _ = evaluate_loss(loss, Y, Y)
    np.testing.assert_allclose(value, 0.0, atol=1e-6)
    expected = array(loss(Y, P))
    assert ((0 < expected) & (expected < 2 + 0.5 * (kind is kr.losses.CIoU))).all()
    for scale in (1e-5, 1e4):
        np.testing.assert_allclose(array(loss(scale * Y, scale * P)), expected, rtol=1e-4)
    pixels = np.round(100 * Y)
    found = [array(loss(pixels.astype(dtype), 100 * P)) for dtype in ("uint8", "float64")]
    np.testing.assert_allclose(*found, rtol=1e-6)


@pytest.mark.everywhere
@kinds
def test_equal_boxes_have_the_same_slope_on_every_backend(kind):
    _, gradient = evaluate_loss(kind(reduction="none"), Y, Y)
    np.testing.assert_allclose(gradient, 0.0, atol=1e-5)


@kinds
@pytest.mark.parametrize(
    "box",
    [
        [0.3, 0.3, 0.3, 0.3],  # A point, a line, sides the wrong way round, and far away.
        [0.2, 0.3, 0.2, 0.9],
        [0.2, 0.3, 0.9, 0.3],
        [0.9, 0.8, 0.1, 0.2],
        [1e4, -1e4, 1e4, 1e4],
    ],
)
def test_degenerate_boxes_are_finite(kind, box):
    box = np.array([box], "float32")
    for y, p in ((Y[:1], box), (box, P[:1]), (box, box), (0 * box, 0 * box)):
        value, gradient = evaluate_loss(kind(reduction="none"), y, p)
        assert np.isfinite(value).all()
        assert np.isfinite(gradient).all()
        assert value[0] >= 0


@kinds
def test_boxes_of_an_image_and_their_padding(kind):
    y, p = Y.reshape(2, 3, 4), P.reshape(2, 3, 4)
    each = array(kind(reduction="none")(y, p))
    np.testing.assert_allclose(each.ravel(), array(kind(reduction="none")(Y, P)), rtol=1e-6)
    weight = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]], "float32")
    padded = np.where(weight[..., None] > 0, y, 0.0)
    loss = kind(reduction="mean_with_sample_weight")
    expected = each[weight > 0].mean()
    np.testing.assert_allclose(array(loss(padded, p, sample_weight=weight)), expected, rtol=1e-5)
    for shapes in (((2, 3, 4), (2, 4)), ((2, 5), (2, 5)), ((4,), (4,)), ((2, 1), (2, 4))):
        with pytest.raises(ValueError, match=r"Received: y_(true|pred).shape="):
            kind()(np.zeros(shapes[0]), np.zeros(shapes[1]))


class IoU(kr.losses.GIoU):
    """The loss without a distance."""

    def pair_values(self, pair):
        return 1.0 - pair.iou


def overlap(a, b):
    """Intersection over union of boxes by their centres and sides."""
    low = np.maximum(a[:, :2] - a[:, 2:] / 2, b[:, :2] - b[:, 2:] / 2)
    high = np.minimum(a[:, :2] + a[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2)
    inner = np.prod(np.maximum(high - low, 0), axis=-1)
    return inner / (a[:, 2:].prod(-1) + b[:, 2:].prod(-1) - inner)


def steps_until_fit(kind, steps=200):
    """Steps of gradient descent after which 64 boxes cover their targets, from a start beside them."""
    rng = np.random.default_rng(1)
    y, p = (
        np.concatenate([rng.uniform(*at, (64, 2)), rng.uniform(0.8, 1.5, (64, 2))], -1)
        for at in ((2.5, 4), (0, 1))
    )
    loss = kind("center_xywh", reduction="none")
    run = values_and_gradients(lambda z, y: loss.call(y, z))
    y, p, first = y.astype("float32"), p.astype("float32"), np.full(64, np.inf)
    for i in range(steps):
        iou = overlap(y, p)
        first = np.where(iou > 0.8, np.minimum(first, i), first)
        gradient = array(run(p, y)[1])
        # The steps of the simulation in the paper on `DIoU`, and smaller towards the end.
        p = (p - 0.5 * (1 - i / steps) * (2 - iou[:, None]) * gradient).astype("float32")
    return first


@pytest.mark.once
def test_boxes_that_do_not_overlap_find_each_other():
    assert np.isinf(steps_until_fit(IoU)).all()
    found = [steps_until_fit(kind) for kind in KINDS]
    assert np.isfinite(found).all()
    giou, diou, ciou = (steps.mean() for steps in found)
    assert diou < 0.95 * giou
    assert ciou < 0.95 * giou
