"""Strengths that follow a schedule: each step is that of the number which the schedule gives there."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_regularize as kr

SGD = keras.optimizers.SGD
RNG = np.random.default_rng(0)
X, Y = RNG.random((12, 4), dtype="float32"), RNG.integers(0, 3, 12)


def network():
    keras.utils.set_random_seed(1)
    hidden = [layers.Dense(6, "tanh"), layers.Dense(5, "tanh")]
    return keras.Sequential([keras.Input((4,)), *hidden, layers.Dense(3)])


def elastic(**options):
    model = kr.models.ElasticQuantization(network(), (2, 4), seed=2, **options)
    model.calibrate(X)
    return model


METHODS = {
    "AdversarialTraining.clean_weight": (
        lambda value: kr.models.AdversarialTraining(network(), kr.attacks.FGSM(0.1), value),
        (0.2, 0.9),
    ),
    "ElasticQuantization.alpha": (lambda value: elastic(alpha=value), (0.2, 0.9)),
    "ElasticQuantization.distribution_factor": (
        lambda value: elastic(distribution_factor=value),
        (0.5, 5.0),
    ),
    "IGNITE.rho": (lambda value: kr.models.IGNITE(network(), value, factor=1.0), (0.5, 2.0)),
    "AdaptiveGradientClipping.clipping": (
        lambda value: kr.optimizers.AdaptiveGradientClipping(SGD(0.1), value),
        (0.01, 0.001),
    ),
}


def two_steps(make, values):
    """The weights after each of two steps; one value stays, or a schedule gives it."""
    made = make(values)
    model, optimizer = (made, SGD(0.1)) if isinstance(made, keras.Model) else (network(), made)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    seen = []
    for _ in range(2):
        model.train_on_batch(X, Y)
        seen.append(np.concatenate([w.ravel() for w in model.get_weights()]))
    return seen


@pytest.mark.parametrize("name", METHODS)
def test_a_schedule_gives_the_strength_of_each_step(name):
    make, (first, then) = METHODS[name]
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([0], [first, then])
    early, late = two_steps(make, schedule)
    constant = two_steps(make, first)
    np.testing.assert_allclose(early, constant[0], rtol=1e-5, atol=1e-6)
    other = np.abs(late - constant[1]).max()
    assert other > 1e-5
    # From the second step on it is the other number.
    still = two_steps(make, keras.optimizers.schedules.PiecewiseConstantDecay([-1], [first, then]))
    for a, b in zip(still, two_steps(make, then)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    made = make(schedule)
    argument = name.split(".")[1]
    restored = type(made).from_config(made.get_config())
    assert float(keras.ops.convert_to_numpy(getattr(restored, argument)(5))) == pytest.approx(then)
    with pytest.raises(ValueError, match=f"`{argument}` must be a number.* or a schedule"):
        make("much")
