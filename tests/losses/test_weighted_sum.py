"""A weighted sum of losses, of images and of pixels."""

import keras
import numpy as np
import pytest

import keras_regularize as kr
from keras_regularize.testing import assert_config_round_trip
from tests.helpers import array, normal

IDS, LOGITS = np.random.default_rng(0).integers(0, 3, (2, 4, 5)), normal(2, 4, 5, 3)


def pair(**options):
    options = {"from_logits": True, **options}
    return [
        kr.losses.SoftDice(**options),
        keras.losses.SparseCategoricalCrossentropy(**options),
    ]


@pytest.mark.parametrize("ignored", [False, True])
def test_the_sum_of_dice_and_cross_entropy(ignored):
    ids = IDS.copy()
    if ignored:
        ids[0, :2], ids[1, 0, 0] = 255, 255
    losses = pair(ignore_class=255 if ignored else None)
    expected = [
        2.0 * array(losses[0](y, z)) - 0.5 * array(losses[1](y, z))
        for y, z in zip(ids[:, None], LOGITS[:, None])
    ]
    got = kr.losses.WeightedSum(losses, [2.0, -0.5], reduction="none")(ids, LOGITS)
    np.testing.assert_allclose(array(got), expected, rtol=1e-5)


def test_losses_of_every_kind_and_their_config():
    loss = kr.losses.WeightedSum(["mse", keras.losses.mean_absolute_error, keras.losses.Huber()])
    y, p = normal(4, 3), normal(4, 3, seed=1)
    expected = sum(
        float(function(y, p))
        for function in (
            keras.losses.MeanSquaredError(),
            keras.losses.MeanAbsoluteError(),
            keras.losses.Huber(),
        )
    )
    np.testing.assert_allclose(float(loss(y, p)), expected, rtol=1e-5)
    assert_config_round_trip(kr.losses.WeightedSum(pair(), [1.0, 2.0]))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="`losses` must be a list"):
        kr.losses.WeightedSum([])
    with pytest.raises(ValueError, match="one number per loss, 2"):
        kr.losses.WeightedSum(pair(), [1.0])
    with pytest.raises(ValueError, match="all take logits or all probabilities"):
        kr.losses.WeightedSum([*pair(), kr.losses.Jaccard()])
    with pytest.raises(ValueError, match="value per sample"):
        kr.losses.WeightedSum([keras.losses.Dice()])(np.eye(3)[IDS], LOGITS)


def test_weights_of_pixels_do_not_fit_to_values_of_images():
    weight = np.ones((2, 4, 2), "float32")  # A last axis that NumPy would broadcast.
    with pytest.raises(ValueError, match="a weight for each value or sample"):
        kr.losses.SoftDice(from_logits=True)(IDS, LOGITS, sample_weight=weight)
