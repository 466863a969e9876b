"""Losses of distances: their maps, their limits, and maps that the data pipeline has made."""

import numpy as np
import pytest
from scipy import ndimage

import keras_regularize as kr
from tests.helpers import array, normal

RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 3, (2, 6, 7))
LOGITS = normal(2, 6, 7, 3)
KINDS = {
    "Boundary": "signed",
    "HausdorffDistance": "unsigned",
    "RegionWise": "region_wise",
    "DistanceMapCrossentropy": "penalty",
}


def value(name, y_true=IDS, y_pred=LOGITS, **config):
    config = {"from_logits": True, "reduction": "none", **config}
    return array(getattr(kr.losses, name)(**config)(y_true, y_pred))


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def definition(inside, kind):
    """The map of one mask, pixel by pixel."""
    if inside.all() or not inside.any():
        constant = {"region_wise": -1.0 if inside.all() else 1.0}.get(kind, 0.0)
        return np.full(inside.shape, constant)
    depth = ndimage.distance_transform_edt(inside)
    distance = ndimage.distance_transform_edt(~inside)
    if kind == "signed":
        return distance * ~inside - (depth - 1) * inside
    if kind == "unsigned":
        return depth + distance
    if kind == "region_wise":
        return np.where(inside, -depth / depth.max(), 1.0)
    near, far = (depth.max() - depth) * inside, (distance.max() - distance) * ~inside
    return sum(x / x.max() if x.any() else x for x in (near, far))


@pytest.mark.once
@pytest.mark.parametrize("kind", KINDS.values())
def test_maps_are_those_of_the_definition(kind):
    ids = IDS.copy()
    ids[0, :4], ids[1] = 1, 0  # Deep, and nothing else.
    found = kr.losses.distance_maps(ids, 3, kind)
    assert found.dtype == "float32"
    np.testing.assert_array_equal(found[..., :3], np.eye(3)[ids])
    for image, y in zip(found, ids):
        for c in range(3):
            inside = y > 0 if kind == "penalty" else y == c
            close(image[..., 3 + c], definition(inside, kind))
    for labels in (ids[..., None], np.eye(3)[ids]):
        np.testing.assert_array_equal(kr.losses.distance_maps(labels, 3, kind), found)
    one = kr.losses.distance_maps(ids == 1, 1, kind)
    np.testing.assert_array_equal(one[..., 0], ids == 1)
    close(one[0, ..., 1], definition(ids[0] == 1, kind))


@pytest.mark.once
def test_labels_that_are_no_classes_have_no_maps():
    for ids, classes in ((IDS, 2), (IDS, 1), (np.full((1, 3), 255), 3)):
        with pytest.raises(ValueError, match="Expected class ids"):
            kr.losses.distance_maps(ids, classes)
    with pytest.raises(ValueError, match="`kind` must be one of"):
        kr.losses.distance_maps(IDS, 3, "squared")


@pytest.mark.parametrize("name", KINDS)
def test_maps_of_the_pipeline_give_the_same_loss(name):
    sampling = [2.0, 0.5]
    targets = kr.losses.distance_maps(IDS, 3, KINDS[name], sampling)
    expected = value(name, sampling=sampling)
    close(value(name, targets, sampling=sampling), expected)  # That of the prediction's own map.
    targets = kr.losses.distance_maps(IDS > 0, 1, KINDS[name])
    close(value(name, targets, LOGITS[..., :1]), value(name, IDS > 0, LOGITS[..., :1]))


@pytest.mark.everywhere
@pytest.mark.parametrize("name", KINDS)
def test_empty_and_full_masks(name):
    p = np.full((2, 3, 4, 1), 0.25, "float32")
    mask = np.stack([np.zeros((3, 4)), np.ones((3, 4))])
    expected = {"RegionWise": [0.25, -0.25], "DistanceMapCrossentropy": -np.log([0.75, 0.25])}
    close(value(name, mask, p, from_logits=False), expected.get(name, [0.0, 0.0]))


def test_cross_entropy_counts_up_to_twice():
    plain = value("TopKCrossentropy", fraction=1.0)
    weighted = value("DistanceMapCrossentropy")
    assert (weighted > plain).all()
    assert (weighted < 2 * plain).all()


def test_the_prediction_is_a_boundary_of_its_own():
    mask = np.zeros((1, 5), "int32")
    mask[0, :2] = 1
    p = np.array([[[0.9], [0.2], [0.1], [0.1], [0.6]]], "float32")
    d_y, d_p = definition(mask[0] > 0, "unsigned"), definition(p[0, :, 0] > 0.5, "unsigned")
    squares = (p[0, :, 0] - mask[0]) ** 2
    config = {"alpha": 1.5, "from_logits": False}
    close(value("HausdorffDistance", mask, p, **config), (squares * (d_y**1.5 + d_p**1.5)).mean())
    one_sided = value("HausdorffDistance", mask, p, two_sided=False, **config)
    close(one_sided, (squares * d_y**1.5).mean())
