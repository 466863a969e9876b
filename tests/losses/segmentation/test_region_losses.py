"""Values that follow from the formulas of the overlaps."""

import numpy as np
import pytest

import keras_regularize as kr

RNG = np.random.default_rng(0)
MASK = (RNG.random((2, 5, 5)) < 0.4).astype("float32")
HARD = (RNG.random((2, 5, 5, 1)) < 0.5).astype("float32")
SOFT = RNG.random((2, 5, 5, 1)).astype("float32")


def value(name, y_true=MASK, y_pred=SOFT, **config):
    return np.asarray(getattr(kr.losses, name)(reduction="none", **config)(y_true, y_pred))


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


def test_the_family_has_its_known_relations():
    jaccard = 1 - value("Jaccard", y_pred=HARD, smooth=0)
    close(value("SoftDice", y_pred=HARD, smooth=0), 1 - 2 * jaccard / (1 + jaccard))
    halves = {"false_positive_weight": 0.5, "false_negative_weight": 0.5, "gamma": 1.0}
    close(value("FocalTversky", smooth=0.5, **halves), value("SoftDice", smooth=1.0))
    ones = {"false_positive_weight": 1.0, "false_negative_weight": 1.0, "gamma": 1.0}
    close(value("FocalTversky", smooth=0.5, **ones), value("Jaccard", smooth=0.5))
    close(value("LogCoshDice"), np.log(np.cosh(value("SoftDice"))))
    uniform = value("GeneralizedDice", weighting="uniform")  # Of one class.
    close(uniform, value("SoftDice"))


def test_misses_and_false_alarms_have_their_own_weights():
    mask = np.array([[1, 1, 1, 0, 0]], "float32")
    found = np.array([[[1], [0], [0], [0], [0]]], "float32")  # Two misses, no false alarm.
    config = {"gamma": 1.0, "smooth": 0}
    close(
        value(
            "FocalTversky", mask, found, false_negative_weight=1, false_positive_weight=0, **config
        ),
        2 / 3,
    )
    close(
        value(
            "FocalTversky", mask, found, false_negative_weight=0, false_positive_weight=1, **config
        ),
        0,
    )


@pytest.mark.parametrize("smooth", [0.0, 1e-5])
@pytest.mark.parametrize("name", ["SoftDice", "Jaccard", "GeneralizedDice"])
def test_empty_and_full_masks(name, smooth):
    empty, full = 0 * MASK, 0 * MASK + 1
    nothing, all_of_it = empty[..., None], full[..., None]
    close(value(name, empty, nothing, smooth=smooth), 0.0)
    close(value(name, full, all_of_it, smooth=smooth), 0.0)
    if name == "GeneralizedDice":  # The size has a weight of its inverse square.
        close(value(name, full, nothing, smooth=smooth), 1.0 - smooth / (1 / 25 + smooth))
        close(value(name, empty, all_of_it, smooth=smooth), 0.0)  # Nothing is present.
    else:
        close(value(name, full, nothing, smooth=smooth), 1.0)
        close(value(name, empty, all_of_it, smooth=smooth), 1.0)


def test_an_absent_class_has_the_largest_weight_of_generalized_dice():
    ids, p = np.array([[0, 0, 0, 1]]), np.full((1, 4, 3), 1 / 3, "float32")
    size, predicted, overlap = np.array([3, 1, 0]), np.full(3, 4 / 3), np.array([1, 1 / 3, 0])
    for weighting, w in {
        "square": [1 / 9, 1, 1],
        "simple": [1 / 3, 1, 1],
        "uniform": [1, 1, 1],
    }.items():
        expected = 1 - 2 * np.dot(w, overlap) / np.dot(w, size + predicted)
        close(value("GeneralizedDice", ids, p, weighting=weighting, smooth=0), expected)


def test_sides_of_a_mask_that_are_empty_cost_nothing():
    p = np.full((1, 4, 1), 0.5, "float32")
    config = {"sensitivity_weight": 0.25}
    close(value("SensitivitySpecificity", np.zeros((1, 4)), p, **config), 0.75 * 0.25)
    close(value("SensitivitySpecificity", np.ones((1, 4)), p, **config), 0.25 * 0.25)


@pytest.mark.once
@pytest.mark.parametrize(
    "name, config",
    [
        ("SoftDice", {"smooth": -1.0}),
        ("GeneralizedDice", {"weighting": "cubic"}),
        ("FocalTversky", {"gamma": 0.0}),
        ("FocalTversky", {"false_negative_weight": -0.1}),
        ("SensitivitySpecificity", {"sensitivity_weight": 1.5}),
        ("SensitivitySpecificity", {"smooth": 0.0}),
    ],
)
def test_arguments_out_of_range_are_refused(name, config):
    with pytest.raises(ValueError, match=f"`{next(iter(config))}` must be"):
        getattr(kr.losses, name)(**config)
