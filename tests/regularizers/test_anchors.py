"""Anchors: what vanishes at the reference, how they relate, and that they ride along with a model."""

import json

import keras
import numpy as np
import pytest

from keras_regularize.regularizers import EWC, L2ToReference, Repulsion, Wasserstein, attach
from keras_regularize.testing._common import cast, to_numpy, values_and_gradients

RNG = np.random.default_rng(0)
W, REFERENCE = np.float32(RNG.normal(size=(2, 4, 3)))


def evaluate(regularizer, w=W):
    value, gradient = values_and_gradients(lambda w: regularizer(w))(cast(w, "float32"))
    return float(to_numpy(value)), to_numpy(gradient)


def same(a, b):
    for found, expected in zip(a, b):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_relations_between_them():
    l2 = evaluate(L2ToReference(REFERENCE, 0.7))
    np.testing.assert_allclose(l2[0], 0.7 * ((W - REFERENCE) ** 2).sum(), rtol=1e-5)
    same(evaluate(EWC(REFERENCE, np.ones((4, 3)), 1.4)), l2)
    same(evaluate(Repulsion(REFERENCE, "negative", 0.7)), (-l2[0], -l2[1]))
    assert evaluate(EWC(REFERENCE, np.zeros((4, 3)), 1.4))[0] == 0
    # Sorted entries are the closest matching; a reference of zero leaves nothing to match.
    assert evaluate(Wasserstein(REFERENCE, 0.7))[0] < l2[0]
    zero = np.zeros((4, 3))
    same(evaluate(Wasserstein(zero, 0.7)), evaluate(L2ToReference(zero, 0.7)))


def test_wasserstein_matches_entries_by_rank():
    flat, reference = W.ravel(), np.sort(REFERENCE.ravel())
    matched = np.empty(12)
    matched[np.argsort(flat)] = reference
    value, gradient = evaluate(Wasserstein(REFERENCE, 0.5))
    np.testing.assert_allclose(value, 0.5 * ((flat - matched) ** 2).sum(), rtol=1e-5)
    np.testing.assert_allclose(gradient.ravel(), flat - matched, rtol=1e-4, atol=1e-5)
    moved = RNG.permutation(REFERENCE.ravel()).reshape(2, 6) + 0.25
    np.testing.assert_allclose(
        evaluate(Wasserstein(REFERENCE, 1.0), moved)[0], 12 * 0.25**2, rtol=1e-4
    )


@pytest.mark.parametrize("kind", ["exponential", "inverse"])
def test_repulsion_points_away_and_fades(kind):
    near, far = REFERENCE + 0.1, REFERENCE + 1.0
    regularizer = Repulsion(REFERENCE, kind, 2.0, alpha=0.5)
    values = []
    for w in (near, far):
        value, gradient = evaluate(regularizer, w)
        values.append(value)
        assert (gradient * (w - REFERENCE) < 0).all()  # Descent moves further away.
    assert values[0] > values[1] > 0
    value, gradient = evaluate(regularizer, REFERENCE)
    assert (gradient == 0).all() and np.isfinite(value)
    assert evaluate(regularizer, REFERENCE + 1e4)[0] < 1e-8


def test_attached_to_a_model_and_saved_with_it(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
    start = model.get_weights()
    attach(model, lambda v: L2ToReference(v.value, 0.5))
    attach(model, lambda v: EWC(v, np.ones(v.shape), 1.0), "bias")
    assert sum(float(to_numpy(loss)) for loss in model.losses) == 0
    model.set_weights([w + 1 for w in start])
    expected = 0.5 * sum(w.size for w in start)
    np.testing.assert_allclose(
        sum(float(to_numpy(loss)) for loss in model.losses), expected, rtol=1e-5
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        sum(float(to_numpy(loss)) for loss in loaded.losses), expected, rtol=1e-5
    )
    np.testing.assert_array_equal(loaded.layers[0].kernel_regularizer.reference, start[0])
    json.dumps(loaded.get_config())


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: L2ToReference([np.nan]), "`reference` must be finite"),
        (lambda: L2ToReference("kernel"), "`reference` must be an array of numbers.*kernel"),
        (lambda: EWC([1.0], [[1.0], []]), "`importance` must be an array of numbers"),
        (lambda: L2ToReference([1.0], -1), "`factor` must be a number at least 0"),
        (lambda: L2ToReference([1.0])(W), "the shape of the weight, \\(4, 3\\).*shape \\(1,\\)"),
        (lambda: Wasserstein([1.0])(W), "as many entries as the weight, 12.*shape \\(1,\\)"),
        (lambda: EWC([1.0], [1.0, 2.0]), "`importance` must have the shape of the reference"),
        (lambda: EWC([1.0], [-1.0]), "`importance` must not be negative"),
        (lambda: Repulsion([1.0], "linear"), "`kind` must be one of 'exponential'"),
        (lambda: Repulsion([1.0], alpha=0), "`alpha` must be a number above 0"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
