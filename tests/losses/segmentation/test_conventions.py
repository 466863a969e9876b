"""What holds for every loss of masks: forms of labels, layouts, pixels to ignore, absent classes, errors."""

import keras
import numpy as np
import pytest

import keras_regularize as kr
from tests.helpers import array, softmax, values_and_gradients

REGION_LOSSES = {
    "SoftDice": {},
    "SoftDice, squared": {"squared": True},
    "LogCoshDice": {},
    "GeneralizedDice": {},
    "Jaccard": {},
    "FocalTversky": {},
    "SensitivitySpecificity": {},
}
MATRIX = [[0, 1, 1], [1, 0, 0.4], [1, 0.4, 0]]
PIXEL_LOSSES = {
    "Combo": {},
    "ExponentialLogarithmic": {},
    "UnifiedFocal": {},
    "UnifiedFocal, symmetric": {"asymmetric": False},
    "GeneralizedWassersteinDice": {"distance_matrix": MATRIX},
    "GeneralizedWassersteinDice, GDL": {"distance_matrix": MATRIX, "weighting": "GDL"},
    "LovaszSoftmax": {},
    "LovaszSoftmax, all": {"classes": "all"},
    "TopKCrossentropy": {"fraction": 1.0},
    "BoundaryDoU": {},
    "ClDice": {"iterations": 1},
    "Boundary": {"include_background": True},
    "HausdorffDistance": {"include_background": True},
    "RegionWise": {},
    "DistanceMapCrossentropy": {},
}
# Whose value depends on which pixels are neighbours, and of a hole that is no rim.
DISTANCES = ("Boundary", "HausdorffDistance", "RegionWise", "DistanceMapCrossentropy")
HOLES = ("ClDice", *DISTANCES)
SPATIAL = ("BoundaryDoU", *HOLES)
LOSSES = {**REGION_LOSSES, **PIXEL_LOSSES}


def make(name, classes=3, **options):
    if classes == 1 and "Wasserstein" in name:
        options["distance_matrix"] = [[0, 1], [1, 0]]
    return getattr(kr.losses, name.split(",")[0])(
        reduction="none", **{"per_image": True, **LOSSES[name], **options}
    )


def evaluate(loss, y_true, y_pred):
    """Value and gradient, as one compiled call."""
    run = values_and_gradients(lambda y_pred, y_true: loss(y_true, y_pred))
    return tuple(array(x) for x in run(np.asarray(y_pred, "float32"), y_true))


def case(seed=0, shape=(2, 12), classes=3):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, classes, shape)
    return ids.astype("int32"), rng.normal(size=(*shape, classes)).astype("float32")


@pytest.mark.parametrize("name", LOSSES)
def test_forms_of_labels_layouts_and_logits_agree(name):
    ids, logits = case()
    expected, _ = evaluate(make(name, from_logits=True), ids, logits)
    assert expected.shape == (2,)
    assert np.isfinite(expected).all()
    for labels in (ids[..., None], ids.astype("uint8"), np.eye(3, dtype="float32")[ids]):
        loss = make(name, from_logits=True)
        np.testing.assert_allclose(loss(labels, logits), expected, rtol=1e-6)
    probabilities = softmax(logits)
    np.testing.assert_allclose(make(name)(ids, probabilities), expected, rtol=1e-5)
    if name in SPATIAL:
        return
    for space in ((3, 4), (3, 2, 2)):
        got = make(name)(ids.reshape(2, *space), probabilities.reshape(2, *space, 3))
        np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_pixels_to_ignore_are_as_good_as_cut_out(name):
    ids, logits = case()
    expected, slope = evaluate(make(name, from_logits=True), ids, logits)
    if name == "TopKCrossentropy":  # Zeros among the pixels.
        expected, slope = 0.8 * expected, 0.8 * slope
    padded = np.concatenate([ids, np.full((2, 3), 255)], axis=1).astype("uint8")
    wild = np.concatenate([logits, np.full((2, 3, 3), np.nan, "float32")], axis=1)
    value, gradient = evaluate(make(name, from_logits=True, ignore_class=255), padded, wild)
    if name not in HOLES:
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        np.testing.assert_allclose(gradient[:, :12], slope, rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(gradient[:, 12:], 0.0)
    value, gradient = evaluate(
        make(name, from_logits=True, ignore_class=255), 0 * padded + 255, wild
    )
    assert np.isfinite(value).all()
    np.testing.assert_array_equal(gradient, 0.0)


@pytest.mark.parametrize("name", LOSSES)
def test_one_channel_and_its_forms(name):
    ids, logits = case(classes=2)
    column = logits[..., :1]
    expected, _ = evaluate(make(name, 1, from_logits=True), ids, column)
    for labels in (ids[..., None], ids.astype("float32"), ids.astype(bool)):
        np.testing.assert_allclose(
            make(name, 1, from_logits=True)(labels, column), expected, rtol=1e-6
        )
    np.testing.assert_allclose(make(name, 1)(ids, 1 / (1 + np.exp(-column))), expected, rtol=1e-5)
    ignoring = make(name, 1, from_logits=True, ignore_class=255)
    longer = np.concatenate([ids, np.full((2, 1), 255)], axis=1)
    got = ignoring(longer, np.concatenate([column, column[:, :1]], axis=1))
    if name in HOLES:
        return
    factor = 12 / 13 if name == "TopKCrossentropy" else 1.0
    np.testing.assert_allclose(got, factor * expected, rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient_are_finite_whatever_is_predicted(name):
    ids = np.array([[0, 0, 0, 0], [1, 1, 1, 1], [2, 2, 0, 0]], "int32")
    right = np.eye(3)[ids]
    for scores in (1e4 * right, 1e4 * (1 - right), 0 * right, 1e4 * np.roll(right, 1, -1)):
        value, gradient = evaluate(make(name, from_logits=True), ids, scores)
        assert np.isfinite(value).all()
        assert np.isfinite(gradient).all()
    value, gradient = evaluate(make(name), ids, right)
    assert np.isfinite(value).all()
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_that_counts_as_one_image(name):
    ids, logits = case()
    joined = make(name, from_logits=True)(ids.reshape(1, 24), logits.reshape(1, 24, 3))
    loss = make(name, from_logits=True, per_image=False)
    if name not in SPATIAL:
        expected = np.repeat(array(joined), 2)
        np.testing.assert_allclose(array(loss(ids, logits)), expected, rtol=1e-5)
    assert tuple(loss(ids[:0], logits[:0]).shape) == (0,)


@pytest.mark.everywhere
def test_compiled_batches_of_any_size_count_as_one_image():
    ids, logits = case(shape=(3, 12))
    loss = kr.losses.SoftDice(from_logits=True, per_image=False)
    model = keras.Sequential(
        [keras.Input((12, 3)), keras.layers.Dense(3, kernel_initializer="identity")]
    )
    model.compile("sgd", loss)
    found = model.evaluate(logits, ids, batch_size=2, verbose=0)
    first, last = (float(array(loss(ids[rows], logits[rows]))) for rows in (slice(2), slice(2, 3)))
    assert found == pytest.approx((2 * first + last) / 3, rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_what_does_not_fit_is_refused(name):
    ids, logits = case()
    loss = make(name, from_logits=True)
    with pytest.raises(ValueError, match=r"\(batch, \*spatial, classes\)"):
        loss(ids[:, 0], logits[:, 0])
    with pytest.raises(ValueError, match="Received: y_true.shape"):
        loss(ids[:, :7], logits)
    with pytest.raises(ValueError, match="class ids from 0 to 2.*255"):
        loss(np.where(ids == 0, 255, ids), logits)
    with pytest.raises(ValueError, match="between 0 and 1"):
        make(name, 1, from_logits=True)(ids, logits[..., :1])
    with pytest.raises(ValueError, match="ignore_class"):
        make(name, ignore_class=255)(np.eye(3)[ids], logits)


@pytest.mark.everywhere
def test_an_id_that_is_no_class_gives_nan_where_it_cannot_be_looked_at():
    ids, logits = case()
    ids[1, 3] = 7
    loss = kr.losses.SoftDice(from_logits=True, reduction="none")
    if keras.backend.backend() == "torch":  # Everything can be looked at.
        with pytest.raises(ValueError, match="Received: y_true with 7"):
            loss(ids, logits)
        return
    model = keras.Sequential([keras.Input((12, 3)), keras.layers.Identity()])
    model.compile(loss=loss)
    assert np.isnan(model.test_on_batch(logits, ids))
    weight = np.array([1.0, 0.0], "float32")
    loss.reduction = "sum"
    expected = loss(ids[:1], logits[:1])
    np.testing.assert_allclose(
        model.test_on_batch(logits, ids, sample_weight=weight), array(expected), rtol=1e-6
    )


@pytest.mark.parametrize("name", REGION_LOSSES)
def test_without_background_it_is_the_loss_of_the_other_channels(name):
    ids, logits = case()
    rows, probabilities = np.eye(3)[ids], softmax(logits)
    got = make(name, include_background=False)(ids, probabilities)
    np.testing.assert_allclose(
        got, make(name)(rows[..., 1:], probabilities[..., 1:].astype("float32")), rtol=1e-5
    )
    one = logits[..., :1]
    for labels in (ids > 0, (ids > 0)[..., None]):
        np.testing.assert_allclose(
            make(name, include_background=False, from_logits=True)(labels, one),
            make(name, from_logits=True)(labels, one),
        )


@pytest.mark.parametrize(
    "name", [n for n in REGION_LOSSES if n not in ("GeneralizedDice", "LogCoshDice")]
)
def test_class_weights_multiply_the_losses_of_the_classes(name):
    ids, logits = case()
    alone = [
        make(name, from_logits=True, class_weights=3.0 * row)(ids, logits) for row in np.eye(3)
    ]
    got = make(name, from_logits=True, class_weights=[0.5, 2.0, 1.0])(ids, logits)
    expected = (0.5 * alone[0] + 2.0 * alone[1] + alone[2]) / 3.0
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="2 weights for 3 classes"):
        make(name, class_weights=[1.0, 2.0])(ids, softmax(logits))
    with pytest.raises(ValueError, match="class_weights"):
        make(name, class_weights=[1.0, -2.0, 1.0])
