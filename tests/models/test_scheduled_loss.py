"""A loss whose weight follows a schedule, against fixed weights and sums of values by hand."""

import keras
import numpy as np
import pytest

import keras_regularize as kr
from tests.helpers import normal

X = normal(4, 5, 6, 2)
Y = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype("uint8")
Y[:, :, 0] = 255
CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
DICE = kr.losses.SoftDice(from_logits=True, ignore_class=255)


def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((5, 6, 2)), keras.layers.Dense(3)])


@pytest.mark.everywhere
def test_compiled_steps_follow_both_schedules():
    rising, falling = (
        keras.optimizers.schedules.PiecewiseConstantDecay([0, 1], numbers)
        for numbers in ([0.0, 0.5, 2.0], [1.0, 0.25, 0.0])
    )
    net = network()
    model = kr.models.ScheduledLoss(net, DICE, rising, falling)
    model.compile(keras.optimizers.SGD(0.0), CROSS_ENTROPY)
    losses = model.fit(X, Y, batch_size=4, epochs=3, verbose=0).history["loss"]
    outputs = net.predict(X, verbose=0)
    first, second = float(CROSS_ENTROPY(Y, outputs)), float(DICE(Y, outputs))
    expected = [first, 0.25 * first + 0.5 * second, 2.0 * second]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    np.testing.assert_allclose(model.evaluate(X, Y, verbose=0), first, rtol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_step_is_that_of_the_weighted_sum(weighted):
    nets = network(), network()
    models = kr.models.ScheduledLoss(nets[0], DICE, 0.5), kr.models.RegularizedModel(nets[1])
    jaccard = kr.losses.Jaccard(from_logits=True, ignore_class=255)
    losses = jaccard, kr.losses.WeightedSum([jaccard, DICE], [1.0, 0.5])
    weight = np.array([1.0, 0.0, 3.0, 2.0]) if weighted else None
    for model, loss in zip(models, losses):
        model.compile(keras.optimizers.SGD(0.5), loss)
        model.train_on_batch(X, Y, sample_weight=weight)
    for a, b in zip(nets[0].get_weights(), nets[1].get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_what_is_no_loss():
    with pytest.raises(ValueError, match="`added_loss` must be a loss"):
        kr.models.ScheduledLoss(network(), None)
    with pytest.raises(ValueError, match="`factor` must be a number"):
        kr.models.ScheduledLoss(network(), DICE, "high")
    x = keras.Input((2,))
    two = keras.Model(x, [keras.layers.Dense(3)(x), keras.layers.Dense(3)(x)])
    model = kr.models.ScheduledLoss(two, CROSS_ENTROPY)
    model.compile("sgd", [CROSS_ENTROPY, CROSS_ENTROPY])
    with pytest.raises(ValueError, match="single output"):
        model.train_on_batch(normal(2, 2), [np.zeros(2), np.zeros(2)])
