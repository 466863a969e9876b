"""Cross-entropies of pixels, Lovász extensions, shapes of objects: values that follow from the formulas."""

import keras
import numpy as np
import pytest
from scipy import ndimage

import keras_regularize as kr
from tests.helpers import array, normal, softmax

IDS = np.random.default_rng(0).integers(0, 3, (2, 4, 5))
LOGITS = normal(2, 4, 5, 3)


def value(name, y_true=IDS, y_pred=LOGITS, **config):
    config = {"from_logits": True, "reduction": "none", **config}
    return array(getattr(kr.losses, name)(**config)(y_true, y_pred))


def close(a, b, rtol=2e-5):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6)


def crossentropy(ids, logits):
    log_p = np.log(softmax(logits.astype("float64")))
    return -np.take_along_axis(log_p, ids[..., None], axis=-1)[..., 0]


def test_top_k_of_all_is_the_mean_and_falls_with_the_share():
    close(value("TopKCrossentropy", fraction=1.0), crossentropy(IDS, LOGITS).mean((1, 2)))
    values = [value("TopKCrossentropy", fraction=f) for f in (0.01, 0.3, 0.6, 1.0)]
    close(values[0], crossentropy(IDS, LOGITS).max((1, 2)))
    assert (np.diff(values, axis=0) <= 1e-6).all()


@pytest.mark.parametrize("classes", [1, 3])
def test_the_largest_mistake_keeps_its_loss_and_its_gradient(classes):
    ids = np.array([[0, 1]])
    logits = np.full((1, 2, classes), -1e3, "float32")
    logits[0, 0, -1] = 1e3  # Wrong by 2000 between classes, or by 1000 from 0.
    logits[0, 1, min(classes - 1, 1)] = 1e3
    wrong = 2e3 if classes > 1 else 1e3
    close(value("TopKCrossentropy", ids, logits, fraction=0.5), wrong)
    close(value("FocalCrossentropy", ids, logits)[0, 0], wrong)
    combo = value("Combo", ids, logits, crossentropy_weight=1.0)
    # The label is missed, and another class is certain: all it leaves is that of two classes.
    close(combo, {1: 0.5 * wrong / 2, 3: 0.5 * (wrong + wrong - np.log(2)) / 6}[classes])


def test_focal_crossentropy_is_that_of_keras_and_of_the_formula():
    rows = np.eye(3, dtype="float32")[IDS]
    keras_loss = keras.losses.CategoricalFocalCrossentropy(1.0, 2.0, True, reduction="none")
    close(value("FocalCrossentropy"), array(keras_loss(rows, LOGITS)), rtol=1e-4)
    close(value("FocalCrossentropy", gamma=0.0), crossentropy(IDS, LOGITS))
    p, weights = softmax(LOGITS.astype("float64")), np.array([0.5, 2.0, 1.0])
    soft = softmax(normal(2, 4, 5, 3, seed=1))
    for labels, t in ((IDS, rows), (soft, soft)):
        got = value("FocalCrossentropy", labels, gamma=0.5, class_weights=list(weights))
        close(got, -(weights * t * (1 - p) ** 0.5 * np.log(p)).sum(-1))
    one, ids = LOGITS[..., :1], IDS > 0
    both = np.concatenate([0 * one, one], axis=-1)
    two = {"class_weights": [0.25, 0.75]}
    close(
        value("FocalCrossentropy", ids, one, **two),
        value("FocalCrossentropy", ids.astype(int), both, **two),
    )


def test_focal_crossentropy_leaves_out_what_is_to_be_ignored():
    ids = IDS.astype("uint8").copy()
    ids[0, 0, 0] = 255
    loss = kr.losses.FocalCrossentropy(from_logits=True, ignore_class=255)
    expected = value("FocalCrossentropy").ravel()[1:].mean()
    close(array(loss(ids, LOGITS)), expected)


def test_lovasz_of_hard_predictions_is_the_jaccard_loss():
    predicted = np.roll(IDS, 1, axis=1)
    rows, p = np.eye(3)[IDS], np.eye(3, dtype="float32")[predicted]
    both, either = (rows * p).sum((1, 2)), np.maximum(rows, p).sum((1, 2))
    expected = (1 - both / either).mean(-1)
    close(value("LovaszSoftmax", IDS, p, from_logits=False), expected)
    hard = np.where(predicted > 0, 1.0, -1.0).astype("float32")
    mask = IDS > 0
    both, either = (mask & (hard > 0)).sum((1, 2)), (mask | (hard > 0)).sum((1, 2))
    got = kr.losses.LovaszHinge(reduction="none")(mask, hard)  # Errors of 2 at what is wrong.
    close(array(got), 2 * (1 - both / either))


def test_the_hinge_ignores_pixels_and_takes_every_layout():
    ids, scores = (IDS > 0).astype("uint8"), LOGITS[..., 0]
    loss = kr.losses.LovaszHinge(ignore_class=255, reduction="none")
    expected = array(loss(ids, scores))
    for y, z in ((ids[..., None], scores[..., None]), (ids, scores[..., None])):
        close(array(loss(y, z)), expected)
    longer = np.concatenate([ids, np.full((2, 4, 2), 255)], axis=2)
    wild = np.concatenate([scores, np.full((2, 4, 2), np.nan, "float32")], axis=2)
    close(array(loss(longer, wild)), expected)
    with pytest.raises(ValueError, match="equal shapes"):
        loss(ids[:, 1:], scores)


def test_combo_between_its_limits():
    column, mask = LOGITS[..., :1], IDS > 0
    dice = value("SoftDice", mask, column, smooth=1.0)
    close(value("Combo", mask, column, crossentropy_weight=0.0), dice - 1)
    entropy = np.log1p(np.exp(column[..., 0])) - mask * column[..., 0]
    close(value("Combo", mask, column, crossentropy_weight=1.0), 0.5 * entropy.mean((1, 2)))
    p = softmax(LOGITS.astype("float64"))
    y = np.eye(3)[IDS]
    expected = -(0.7 * y * np.log(p) + 0.3 * (1 - y) * np.log(1 - p)).mean((1, 2, 3))
    weights = {"crossentropy_weight": 1.0, "false_negative_weight": 0.7}
    close(value("Combo", **weights), expected)


def test_wasserstein_dice_of_equally_distant_classes():
    matrix = 2.0 * (1 - np.eye(3))  # Divided by its maximum.
    p = np.take_along_axis(softmax(LOGITS.astype("float64")), IDS[..., None], -1)[..., 0]
    hits = 2 * (p * (IDS > 0)).sum((1, 2))
    expected = 1 - hits / (hits + (1 - p).sum((1, 2)))
    close(value("GeneralizedWassersteinDice", distance_matrix=matrix, smooth=0), expected)
    background = value("GeneralizedWassersteinDice", 0 * IDS, distance_matrix=matrix)
    assert (background > 0.999).all()


def test_boundary_dou_counts_the_neighbours_outside():
    mask, p = np.zeros((1, 6, 6)), np.random.default_rng(0).random((1, 6, 6, 1)).astype("float32")
    mask[0, :4, 1:5] = 1
    inner = ndimage.binary_erosion(mask[0], ndimage.generate_binary_structure(2, 1)).sum()
    alpha = min(1 - 2 * (16 - inner) / 16, 0.8)
    squares, overlap = (p**2).sum() + 16, (p[..., 0] * mask).sum()
    expected = (squares - 2 * overlap) / (squares - (1 + alpha) * overlap)
    close(value("BoundaryDoU", mask, p, from_logits=False), expected)
    close(value("BoundaryDoU", 0 * mask, 0 * p, from_logits=False), 1.0)  # Absent.
    close(value("BoundaryDoU", mask, mask[..., None].astype("float32"), from_logits=False), 0.0)


def soft_skeleton(x, iterations):
    """By filters of SciPy."""
    cross, box = ndimage.generate_binary_structure(x.ndim, 1), (3,) * x.ndim

    def eroded(x):
        return ndimage.minimum_filter(x, footprint=cross, mode="constant", cval=np.inf)

    def ridge(x):
        opened = ndimage.maximum_filter(eroded(x), box, mode="constant", cval=-np.inf)
        return np.maximum(x - opened, 0)

    lines = ridge(x)
    for _ in range(iterations):
        x = eroded(x)
        lines = lines + np.maximum(ridge(x) - lines * ridge(x), 0)
    return lines


@pytest.mark.everywhere
@pytest.mark.parametrize("space", [(9,), (6, 7), (4, 5, 4)])
def test_centre_line_dice_is_that_of_a_skeleton_by_other_means(space):
    rng = np.random.default_rng(0)
    p, y = rng.random((1, *space)), (rng.random((1, *space)) < 0.7).astype("float64")
    lines_p, lines_y = soft_skeleton(p[0], 2), soft_skeleton(y[0], 2)
    precision = ((lines_p * y).sum() + 1) / (lines_p.sum() + 1)
    sensitivity = ((lines_y * p).sum() + 1) / (lines_y.sum() + 1)
    expected = 1 - 2 * precision * sensitivity / (precision + sensitivity)
    got = value("ClDice", y, p[..., None].astype("float32"), iterations=2, from_logits=False)
    close(got, expected)


@pytest.mark.once
@pytest.mark.parametrize(
    "name, config",
    [
        ("TopKCrossentropy", {"fraction": 0.0}),
        ("LovaszSoftmax", {"classes": "some"}),
        ("FocalCrossentropy", {"gamma": -1.0}),
        ("Combo", {"crossentropy_weight": 2.0}),
        ("ExponentialLogarithmic", {"gamma": 0.0}),
        ("UnifiedFocal", {"gamma": 1.0}),
        ("BoundaryDoU", {"maximum_alpha": 1.0}),
        ("ClDice", {"iterations": -1}),
        ("GeneralizedWassersteinDice", {"distance_matrix": [[0, 1, 2], [1, 0, 2]]}),
        ("GeneralizedWassersteinDice", {"distance_matrix": [[0, -1], [1, 0]]}),
    ],
)
def test_arguments_out_of_range_are_refused(name, config):
    with pytest.raises(ValueError, match=f"`{next(iter(config))}` must be"):
        getattr(kr.losses, name)(**config)


def test_a_matrix_of_other_classes_is_refused():
    with pytest.raises(ValueError, match="distances of 2 classes"):
        value("GeneralizedWassersteinDice", distance_matrix=[[0, 1], [1, 0]])
