"""The two parts of neural collapse beyond the golden cases: minima, invariances, edges."""

import numpy as np
import pytest
from keras import ops

from keras_regularize.losses import neural_collapse_between, neural_collapse_within
from keras_regularize.testing._common import to_numpy, values_and_gradients

RNG = np.random.default_rng(0)
CENTERS = RNG.normal(size=(4, 5)).astype("float32")
FEATURES = RNG.normal(size=(6, 5)).astype("float32")
LABELS = np.array([0, 3, 3, 0, 1, 3])

between = values_and_gradients(neural_collapse_between)


def within(features, labels, centers=CENTERS):
    run = values_and_gradients(
        lambda moved, labels: neural_collapse_within(moved[0], labels, moved[1])
    )
    value, slopes = run([np.asarray(features, "float32"), centers], labels)
    return to_numpy(value), to_numpy(slopes[0]), to_numpy(slopes[1])


def test_forms_of_labels_agree_and_unlabelled_samples_are_left_out():
    expected = within(FEATURES, LABELS)[0]
    assert within(FEATURES, LABELS[:, None])[0] == expected
    rows = 0.8 * np.eye(4, dtype="float32")[LABELS] + 0.05
    assert within(FEATURES, rows)[0] == expected
    more = np.concatenate([FEATURES, 100 * FEATURES[:2]])
    for labels in (np.append(LABELS, [-1, -1]), np.concatenate([rows, np.full((2, 4), -1.0)])):
        value, slope, _ = within(more, labels.astype(rows.dtype if labels.ndim == 2 else "int32"))
        assert value == pytest.approx(expected, rel=1e-5) and not slope[6:].any()


def test_features_at_their_centres_cost_nothing():
    value, *slopes = within(CENTERS[LABELS], LABELS)
    assert value == pytest.approx(0, abs=1e-5)
    assert all(np.abs(slope).max() < 1e-5 for slope in slopes)
    # Nor does an empty batch.
    value, *slopes = within(FEATURES[:0], LABELS[:0])
    assert value == 0 and not slopes[1].any()


def test_features_far_from_the_origin_are_as_exact():
    expected, *slopes = within(FEATURES, LABELS)
    far = 2.0**9  # The shift itself is rounded to 2e-5.
    value, *shifted = within(FEATURES + far, LABELS, CENTERS + np.float32(far))
    assert value == pytest.approx(expected, rel=1e-4)
    for slope, other in zip(slopes, shifted):
        np.testing.assert_allclose(other, slope, atol=1e-4)


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_a_simplex_is_the_minimum(classes):
    corners = np.eye(classes) - 1 / classes
    best = -np.arccos(-1 / (classes - 1)) if classes > 2 else -np.pi
    value = float(neural_collapse_between(corners.astype("float32")))
    assert value == pytest.approx(best, abs=5e-3)
    near = corners + 0.2 * RNG.normal(size=corners.shape)
    assert float(neural_collapse_between(near.astype("float32"))) > value - 1e-6


def test_shift_rotation_and_scale_of_the_centres_do_not_matter():
    rotation, _ = np.linalg.qr(RNG.normal(size=(5, 5)))
    moved = 7.0 * CENTERS @ rotation + 3.0
    expected, slope = between(CENTERS)
    assert to_numpy(between(moved.astype("float32"))[0]) == pytest.approx(
        to_numpy(expected), rel=1e-4
    )
    np.testing.assert_allclose(to_numpy(slope).sum(axis=0), 0, atol=1e-5)


@pytest.mark.parametrize("centers", [np.zeros((3, 2)), np.ones((2, 2)), 1e4 * np.eye(3)[[0, 0, 1]]])
def test_degenerate_centres_have_finite_gradients(centers):
    value, slope = between(centers.astype("float32"))
    assert np.isfinite(to_numpy(value)) and np.all(np.isfinite(to_numpy(slope)))


def test_half_precision_is_computed_in_float32():
    features = ops.cast(100 * CENTERS[LABELS], "float16")
    value = neural_collapse_within(features, LABELS, CENTERS)
    assert to_numpy(value).dtype == "float32" and np.isfinite(float(value))


@pytest.mark.parametrize(
    "features, centers", [((4, 3), (2, 2)), ((4,), (2, 4)), ((4, 3), (3,)), ((4, 3), (2, 1))]
)
def test_features_and_centres_have_to_fit(features, centers):
    with pytest.raises(ValueError, match="Expected features .batch, features. and centres"):
        neural_collapse_within(np.ones(features, "float32"), [0, 1, 1, 0], np.ones(centers))


@pytest.mark.parametrize("shape", [(1, 3), (3,)])
def test_centres_are_a_matrix_of_two_or_more(shape):
    with pytest.raises(
        ValueError, match=r"matrix of at least two centres.*Received: centers.shape"
    ):
        neural_collapse_between(np.zeros(shape, "float32"))
