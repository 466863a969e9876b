"""Free adversarial training: replays against NumPy, short batches, composition, passes, errors."""

import keras
import numpy as np
import pytest
from counting import count, counting_model
from keras import layers, ops
from numpy_mlp import LOSS, WEIGHTS, X, Y, descended, gradients, losses, model

import keras_regularize as kr


def free(net, epsilon=0.1, replays=3, batch_size=6, bounds=None):
    return kr.models.FreeAdversarialTraining(net, epsilon, replays, batch_size, bounds)


def compiled(wrapper, rate=1.0):
    eager = keras.backend.backend() != "jax"
    wrapper.compile(keras.optimizers.SGD(rate), LOSS, metrics=["accuracy"], run_eagerly=eager)
    return wrapper


def test_replays_follow_the_algorithm_and_the_perturbation_stays():
    net = model()
    wrapper = compiled(free(net))
    weights, delta, logged = WEIGHTS, np.zeros((6, 4)), []
    for rows in (6, 4):  # The second batch is shorter.
        x, y, part = X[:rows].astype("float64"), Y[:rows], slice(0, rows)
        logged.append(np.mean(losses(weights, x + delta[part], y)))
        for _ in range(3):
            moved = x + delta[part]
            delta[part] += 0.1 * np.sign(gradients(weights, moved, y))
            delta = np.clip(delta, -0.1, 0.1)
            weights = descended(lambda w: np.mean(losses(w, moved, y)), weights)  # noqa: B023
        loss, _ = wrapper.train_on_batch(X[:rows], Y[:rows])
        logged[-1] -= loss
        wrapper.reset_metrics()
    np.testing.assert_allclose(logged, 0.0, atol=1e-4)
    np.testing.assert_allclose(wrapper.perturbations[0].numpy(), delta, atol=1e-6)
    for got, expected in zip(net.get_weights(), weights):
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)
    assert int(wrapper.optimizer.iterations) == 6


class Range(kr.models.RegularizedModel):
    """Keeps the smallest and the largest input of the last objective."""

    def __init__(self, model):
        super().__init__(model)
        self.range = self.add_weight(shape=(2,), trainable=False, name="range")

    def objective(self, batch, forward):
        loss, values = super().objective(batch, forward)
        return loss, {**values, "range": ops.stack([ops.min(batch.x), ops.max(batch.x)])}

    def after_update(self, batch, aux, gradients):
        super().after_update(batch, aux, gradients)
        self.range.assign(aux.values["range"])


def test_inputs_stay_within_bounds():
    for bounds, expected in (((0.0, 1.0), (0.0, 1.0)), (None, (X.min() - 0.7, X.max() + 0.7))):
        inner = Range(model())
        wrapper = compiled(free(inner, epsilon=0.7, bounds=bounds))
        wrapper.train_on_batch(X, Y)
        assert np.abs(wrapper.perturbations[0].numpy()).max() == pytest.approx(0.7)
        low, high = inner.range.numpy()
        assert expected[0] - 1e-6 <= low < 0.1 and 0.9 < high <= expected[1] + 1e-6


def test_one_backward_pass_serves_both():
    net, counter = counting_model(inputs=4)
    wrapper = free(net)
    wrapper.compile("sgd", LOSS)
    wrapper.train_on_batch(X, Y)
    assert tuple(count(counter, lambda: wrapper.train_on_batch(X, Y))) == (3, 3, 3)


def test_gradient_rules_act_in_each_replay_inside_and_outside():
    def sam(wrapped):
        return kr.models.SAM(wrapped, rho=0.1)

    results = []
    for wrap in (lambda net: sam(free(net)), lambda net: free(sam(net)), free):
        net = model()
        wrapper = compiled(wrap(net), rate=0.1)
        wrapper.train_on_batch(X, Y)
        results.append(net.get_weights())
    for a, b, other in zip(*results):
        np.testing.assert_array_equal(a, b)
        assert np.abs(a - other).max() > 1e-6


def test_no_radius_and_one_replay_is_plain_training_also_beside_token_ids():
    def network():
        keras.utils.set_random_seed(0)
        x, t = keras.Input((4,), name="x"), keras.Input((2,), dtype="int32", name="t")
        h = layers.Concatenate()([x, layers.Flatten()(layers.Embedding(5, 2)(t))])
        return keras.Model({"x": x, "t": t}, layers.Dense(3)(h))

    data = {"x": X, "t": np.arange(12).reshape(6, 2) % 5}
    plain, wrapped = network(), network()
    compiled(plain).fit(data, Y, batch_size=6, shuffle=False, verbose=0)
    wrapper = compiled(free(wrapped, epsilon=0.0, replays=1))
    wrapper.fit(data, Y, batch_size=6, shuffle=False, verbose=0)
    for a, b in zip(plain.get_weights(), wrapped.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_errors():
    with pytest.raises(ValueError, match="`replays` must be an integer of at least 1"):
        free(model(), replays=0)
    with pytest.raises(ValueError, match="`batch_size` must be an integer of at least 1"):
        free(model(), batch_size=0)
    with pytest.raises(ValueError, match="knows the shapes of its inputs"):
        free(keras.Sequential([layers.Dense(3)]))
    with pytest.raises(ValueError, match="floating inputs of known shapes"):
        free(keras.Sequential([keras.Input((None, 4)), layers.GlobalMaxPooling1D()]))
    with pytest.raises(ValueError, match=r"convert images by `x.astype\(\"float32\"\)`"):
        free(keras.Sequential([keras.Input((4, 4), dtype="uint8"), layers.Rescaling(1 / 255)]))
    net = model()
    with pytest.raises(ValueError, match="at most `batch_size=4` samples.*a batch of 6"):
        compiled(free(net, batch_size=4)).train_on_batch(X, Y)
    for value, expected in zip(net.get_weights(), WEIGHTS):
        np.testing.assert_allclose(value, expected)


@pytest.mark.rotating
def test_training_resists_the_attack():
    # One feature is right nine times in ten, three always, but those an attack can turn around.
    y = np.arange(120) % 2
    side = (2 * y - 1)[:, None]
    strong = np.where(np.arange(120) % 20 < 18, 1, -1)[:, None] * side
    x = np.concatenate([0.5 + 0.3 * strong, 0.5 + 0.1 * np.repeat(side, 3, axis=1)], axis=1)
    x = x.astype("float32")
    attack = kr.attacks.PGD(0.15, 0.05, 5, random_start=False)
    accuracy = []
    for wrap, repeats in ((lambda net: net, 120), (lambda net: free(net, 0.15, 4, 60), 30)):
        net = model()
        wrapper = compiled(wrap(net), rate=1.0)
        many = np.tile(x, (repeats, 1)), np.tile(y, repeats)  # One long epoch, as each start costs.
        wrapper.fit(*many, batch_size=60, verbose=0)
        accuracy.append(kr.analysis.robust_accuracy(net, x, y, attack))
    assert accuracy[1] > accuracy[0] + 0.1
