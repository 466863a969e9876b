"""One cycle, the range test and effective rates."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_regularize import callbacks, models, optimizers
from keras_regularize.testing._common import to_numpy

SGD, Adam = keras.optimizers.SGD, keras.optimizers.Adam
X, Y = np.zeros((8, 1), "float32"), np.zeros((8, 1), "float32")


def slope(optimizer, size=10.0):
    """A model whose bias has the same gradient at every step."""
    net = keras.Sequential([keras.Input((1,)), layers.Dense(1)])
    net.set_weights([np.zeros((1, 1)), np.zeros(1)])
    net.compile(optimizer, lambda y, p: size * p)
    return net


def fit(net, callback, **options):
    return net.fit(X, Y, batch_size=1, epochs=2, verbose=0, callbacks=[callback], **options).history


@pytest.mark.parametrize("skipped", [0, 2])
def test_rate_and_momentum_are_those_of_a_loop(skipped):
    optimizer = SGD(1.0, momentum=0.9)
    if skipped:  # By loss scaling, whose first gradients overflow.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=1e38)
    net = slope(optimizer)
    history = fit(net, callbacks.OneCycle(0.4, 4.0, 10.0, 0.75, momentum=(0.8, 0.95)))
    position = velocity = 0.0
    for step in range(16):
        tent = max(1 - abs(step / 6 - 1), 0)
        rate = 0.1 + 0.3 * tent - 0.09 * max(step - 12, 0) / 4
        if step >= skipped:
            velocity = (0.95 - 0.15 * tent) * velocity - rate * 10.0
            position += velocity
    np.testing.assert_allclose(net.get_weights()[1], [position], rtol=1e-4)
    assert history["learning_rate"][1] == pytest.approx(0.1 - 0.09 * 3 / 4, rel=1e-4)


def test_the_rate_alone_and_what_cannot_be_cycled():
    net = slope(optimizers.LAWN(Adam(1.0), 0))
    history = fit(net, callbacks.OneCycle(0.4, momentum=None))
    assert len(history["learning_rate"]) == 2
    for optimizer in (Adam(), SGD(), SGD(momentum=0.9, nesterov=True)):
        with pytest.raises(ValueError, match="Pass `momentum=None` to cycle the learning rate"):
            fit(slope(optimizer), callbacks.OneCycle(0.4))
    with pytest.raises(ValueError, match="a batch must be a step"):
        fit(slope(SGD(momentum=0.9, gradient_accumulation_steps=2)), callbacks.OneCycle(0.4))
    for callback in (callbacks.OneCycle(0.4, momentum=None), callbacks.LearningRateFinder()):
        with pytest.raises(ValueError, match="must be a number. Received an optimizer whose"):
            fit(slope(SGD(optimizers.OneCycle(1.0, 10))), callback)
    with pytest.raises(ValueError, match="`momentum` must be the lowest and the highest"):
        callbacks.OneCycle(0.4, momentum=0.9)


def quadratic():
    net = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False)])
    net.set_weights([np.ones((1, 1))])
    net.compile(SGD(0.123, momentum=0.5), "mse", metrics=["mae"])
    return net


@pytest.mark.parametrize("mode", ["exponential", "linear"])
def test_the_finder_follows_a_loop_and_restores_everything(mode):
    net = quadratic()
    finder = callbacks.LearningRateFinder(1e-3, 50.0, 40, mode, smoothing=0.6)
    net.fit(X + 1, Y, batch_size=1, epochs=9, verbose=0, callbacks=[finder])
    np.testing.assert_array_equal(net.get_weights()[0], 1.0)
    assert to_numpy(net.optimizer.learning_rate) == np.float32(0.123)
    assert all((to_numpy(v) == 0).all() for v in net.optimizer.variables if "rate" not in v.name)

    space = np.geomspace if mode == "exponential" else np.linspace
    w, velocity, average, losses, smoothed = 1.0, 0.0, 0.0, [], []
    for rate in space(1e-3, 50.0, 40):
        losses.append(w**2)
        average = 0.6 * average + 0.4 * losses[-1]
        smoothed.append(average / (1 - 0.6 ** len(losses)))
        if len(losses) > 1 and smoothed[-1] > 4 * min(smoothed):
            break
        velocity = 0.5 * velocity - rate * 2 * w
        w += velocity
    assert 2 < len(losses) < 40
    np.testing.assert_allclose(finder.losses, losses, rtol=1e-3)
    np.testing.assert_allclose(finder.smoothed_losses, smoothed, rtol=1e-3)
    np.testing.assert_allclose(finder.learning_rates, space(1e-3, 50.0, 40)[: len(losses)])


def test_suggestions():
    finder = callbacks.LearningRateFinder()
    with pytest.raises(ValueError, match="at least three batches"):
        finder.suggestion()
    finder.learning_rates = [1e-3, 1e-2, 1e-1, 1.0, 10.0]
    finder.smoothed_losses = [1.0, 0.9, 0.3, 0.2, np.nan]
    # The central difference at 0.1 is (0.9 - 0.2) / 2 per decade, that at 0.01 (1 - 0.3) / 2.
    finder.smoothed_losses[0] = 0.95
    assert finder.suggestion().steepest == pytest.approx(0.1)
    assert finder.suggestion().minimum == pytest.approx(0.1)


def test_the_finder_takes_all_batches_and_stops_when_nothing_is_finite():
    net = quadratic()
    finder = callbacks.LearningRateFinder(1e-6, 1e-3)
    net.fit(X + 1, Y, batch_size=1, epochs=2, verbose=0, callbacks=[finder])
    assert len(finder.losses) == 16
    finder = callbacks.LearningRateFinder(1e20, 1e30, 10, stop_factor=1e30)
    net.fit(X + 1, Y, batch_size=1, epochs=2, verbose=0, callbacks=[finder])
    assert len(finder.losses) < 10 and not np.isfinite(finder.losses[-1])
    np.testing.assert_array_equal(net.get_weights()[0], 1.0)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: callbacks.LearningRateFinder(0.0), "`minimum` must be a number above 0"),
        (lambda: callbacks.LearningRateFinder(1.0, 1.0), "`maximum` must be a number above 1"),
        (
            lambda: callbacks.LearningRateFinder(smoothing=1.0),
            "`smoothing` must be a number at least 0 and below 1",
        ),
        (lambda: callbacks.LearningRateFinder(mode="log"), "`mode` must be one of"),
        (lambda: callbacks.EffectiveLearningRate("hidden"), "`layers` must be a list"),
        (lambda: callbacks.OneCycle(0.1, momentum=(0.95, 0.85)), "lowest and then the highest"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def normalized():
    inputs = keras.Input((3,))
    x = layers.BatchNormalization()(layers.Dense(4, name="first")(inputs))
    x = keras.Sequential([layers.Dense(2, name="second"), layers.LayerNormalization()])(x)
    return keras.Model(inputs, layers.Dense(1, name="last")(x))


@pytest.mark.parametrize("adaptive", [False, True])
def test_effective_rates_are_those_of_the_formula(adaptive):
    net = models.RegularizedModel(normalized())
    net.compile(optimizers.Proximal(Adam(0.1) if adaptive else SGD(0.1), 0.0), "mse")
    watch = callbacks.EffectiveLearningRate()
    x = np.random.default_rng(0).normal(size=(8, 3))
    history = net.fit(x, x[:, :1], epochs=2, verbose=0, callbacks=[watch]).history
    assert not any(key.startswith("last") for key in history)
    for position, name in ((0, "first"), (6, "second")):
        kernel = net.get_weights()[position]
        norm = np.sqrt((kernel.astype("float64") ** 2).sum())
        assert history[f"{name}_norm"][-1] == pytest.approx(norm, rel=1e-5)
        rate = 0.1 / (norm if adaptive else norm**2)
        assert history[f"{name}_effective_learning_rate"][-1] == pytest.approx(rate, rel=1e-5)


class Unsaved(layers.Layer):
    "A layer that has no config."

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x):
        return self.function(x)


def test_effective_rates_beside_a_layer_without_a_config():
    inputs = keras.Input((3,))
    x = layers.BatchNormalization()(layers.Dense(4, name="first")(Unsaved(lambda x: 2 * x)(inputs)))
    free = layers.Dense(4, name="free")(x)
    x = layers.LayerNormalization()(layers.Conv1D(2, 1, name="second")(free[:, None]))
    net = keras.Model(inputs, layers.Dense(1, name="last")(x)[:, 0])
    with pytest.raises(NotImplementedError):
        net.get_config()
    net.compile(SGD(0.1), "mse")
    watch = callbacks.EffectiveLearningRate()
    history = net.fit(np.ones((2, 3)), np.ones((2, 1)), verbose=0, callbacks=[watch]).history
    assert {key for key in history if key.endswith("_norm")} == {"first_norm", "second_norm"}


def test_effective_rates_of_named_layers():
    net = normalized()
    net.compile(SGD(0.1), "mse")
    watch = callbacks.EffectiveLearningRate(["last"])
    history = net.fit(np.ones((2, 3)), np.ones((2, 1)), verbose=0, callbacks=[watch]).history
    assert "last_norm" in history and "first_norm" not in history
    plain = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    plain.compile(SGD(0.1), "mse")
    with pytest.raises(ValueError, match="needs layers with a kernel that feed a normalization"):
        plain.fit(
            np.ones((2, 3)),
            np.ones((2, 1)),
            verbose=0,
            callbacks=[callbacks.EffectiveLearningRate()],
        )
