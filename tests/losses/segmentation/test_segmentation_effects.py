"""What the losses of masks are for, seen on handwritten digits in images of which their ink is two percent."""

import functools

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

import keras_regularize as kr

pytestmark = pytest.mark.rotating

STEPS = 80


@functools.cache
def scenes(noise=0.3, scraps=0):
    """Images `(64, 28, 28, 1)` with a digit and scraps of others in each, and masks of the digit's ink."""
    rng, digits = np.random.default_rng(0), load_digits().images / 16
    x, y = rng.normal(0, noise, (64, 28, 28)), np.zeros((64, 28, 28), "int32")
    for image, mask, digit in zip(x, y, rng.permutation(digits)):
        fields = 9 * np.stack(np.divmod(rng.permutation(9), 3), axis=-1) + rng.integers(0, 2, 2)
        (row, column), *others = fields[: 1 + scraps]
        image[row : row + 8, column : column + 8] += digit
        mask[row : row + 8, column : column + 8] = digit > 0.5
        for row, column in others:
            image[row : row + 3, column : column + 3] += digits[rng.integers(len(digits)), 2:5, 2:5]
    return x[..., None].astype("float32"), y


def logits(loss, wrap=lambda model: model, **options):
    """Of the second half of the images, by a network that was trained on the first."""
    x, y = scenes(**options)
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Conv2D(8, 7, padding="same", activation="relu"),
        keras.layers.Conv2D(1, 1),
    ]
    model = wrap(keras.Sequential([keras.Input(x.shape[1:]), *layers]))
    model.compile(keras.optimizers.Adam(0.01), loss)
    model.fit(x[:32], y[:32, ..., None], batch_size=32, epochs=STEPS, verbose=0)
    return model.predict(x[32:], verbose=0)


def counts(z, **options):
    """Dice score, recall and precision."""
    found, ink = z[..., 0] > 0, scenes(**options)[1][32:] == 1
    hits = np.sum(found & ink)
    both = np.sum(found) + np.sum(ink)
    return 2 * hits / both, hits / np.sum(ink), hits / max(np.sum(found), 1)


def test_losses_of_the_overlap_find_small_objects_that_crossentropy_leaves():
    options = {"noise": 0.5}
    assert np.mean(scenes(**options)[1]) < 0.025
    crossentropy = keras.losses.BinaryCrossentropy(from_logits=True)
    plain, *_ = counts(logits(crossentropy, **options), **options)
    for loss in (kr.losses.SoftDice, kr.losses.Jaccard):
        dice, *_ = counts(logits(loss(from_logits=True), **options), **options)
        assert dice > plain + 0.1, (loss, dice, plain)


def test_recall_rises_with_the_weight_of_misses():
    found = [
        counts(
            logits(
                kr.losses.FocalTversky(
                    false_positive_weight=1 - weight, false_negative_weight=weight, from_logits=True
                )
            )
        )
        for weight in (0.2, 0.5, 0.8)
    ]
    _, recall, precision = zip(*found)
    assert recall[0] + 0.05 < recall[1] < recall[2] - 0.05, recall
    assert precision[0] > precision[1] + 0.05 > precision[2] + 0.1, precision


def test_what_lies_far_off_goes_as_the_boundary_loss_grows_in():
    options = {"noise": 0.2, "scraps": 3}

    def distance(z):
        metric = kr.metrics.HausdorffDistance95(num_classes=2, threshold=0.0)
        metric.update_state(scenes(**options)[1][32:], z)
        return float(metric.result())

    def wrap(model):
        rising = keras.optimizers.schedules.PolynomialDecay(0.01, STEPS, 0.5)
        falling = keras.optimizers.schedules.PolynomialDecay(0.99, STEPS, 0.5)
        boundary = kr.losses.Boundary(from_logits=True)
        return kr.models.ScheduledLoss(model, boundary, rising, falling)

    loss = kr.losses.GeneralizedDice(from_logits=True)
    plain, bounded = distance(logits(loss, **options)), distance(logits(loss, wrap, **options))
    assert bounded < 0.8 * plain, (bounded, plain)
