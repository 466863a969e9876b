"""ELLE: the objective against NumPy, what makes the error zero, the adaptive weight, passes, effect."""

import keras
import numpy as np
import pytest
from counting import count, counting_model
from keras import layers, ops
from numpy_mlp import LOSS, RNG, WEIGHTS, X, Y, assert_one_step, gradients, losses, model

import keras_regularize as kr


def points(shape, epsilon, seed):
    """The triplet as a step draws it."""
    generator = keras.random.SeedGenerator(seed)
    a, b = (keras.random.uniform(shape, -epsilon, epsilon, seed=generator) for _ in range(2))
    alpha = keras.random.uniform(shape[:1], seed=generator)
    return [ops.convert_to_numpy(t).astype("float64") for t in (a, b, alpha)]


def error(elle, *arguments):
    return float(ops.convert_to_numpy(elle.linearity_error(*arguments)))


def test_one_step_is_that_of_the_formula_with_sample_weights():
    a, b, alpha = points(X.shape, 0.5, seed=3)
    assert -0.5 <= a.min() < -0.2 and 0.2 < b.max() <= 0.5 and 0 <= alpha.min() <= alpha.max() <= 1
    attacked = X + 0.5 * np.sign(gradients(WEIGHTS, X, Y))
    weight = np.array([0.5, 2.0, 1.0, 0.0, 1.5, 1.0], "float32")

    def objective(w):
        c = X + a + alpha[:, None] * (b - a)
        bend = losses(w, c, Y) - (1 - alpha) * losses(w, X + a, Y) - alpha * losses(w, X + b, Y)
        return np.mean(weight * (losses(w, attacked, Y) + 50.0 * bend**2))

    assert_one_step(
        kr.models.ELLE(model(), epsilon=0.5, factor=50.0, seed=3),
        objective,
        sample_weight=weight,
    )


def test_the_error_vanishes_at_the_ends_in_a_point_and_for_an_affine_loss():
    elle = kr.models.ELLE(model())
    other = RNG.rand(6, 4).astype("float32")
    half = np.full(6, 0.5, "float32")
    assert error(elle, X, other, half, Y) > 1e-5
    assert error(elle, X, other, 0 * half, Y) < 1e-12
    assert error(elle, X, other, 0 * half + 1, Y) < 1e-12
    assert error(elle, X, X, half, Y) < 1e-12
    linear = kr.models.ELLE(keras.Sequential([keras.Input((4,)), layers.Dense(1)]))
    linear.compile("sgd", lambda y_true, y_pred: ops.mean(y_pred, axis=-1))
    assert error(linear, X, other, half, Y) < 1e-12


def test_forms_of_the_arguments_of_the_error():
    elle, other = kr.models.ELLE(model()), RNG.rand(6, 4).astype("float32")
    alpha = RNG.rand(6).astype("float32")
    expected = error(elle, X, other, alpha, Y)
    assert error(elle, X, other, alpha[:, None], Y) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match=r"`x_a` and `x_b` must.* \(6, 4\) and \(6, 3\)"):
        elle.linearity_error(X, other[:, :3], alpha, Y)


def test_the_error_scales_with_the_fourth_power_of_the_radius():
    elle = kr.models.ELLE(model())
    a, b = RNG.uniform(-1, 1, (2, 6, 4)).astype("float32")
    alpha = RNG.rand(6).astype("float32")
    wide, narrow = (error(elle, X + e * a, X + e * b, alpha, Y) for e in (0.1, 0.05))
    assert wide / narrow == pytest.approx(16, rel=0.2)


def adaptive(seed=1):
    keras.utils.set_random_seed(seed)
    return kr.models.ELLE(model(), epsilon=0.5, factor=10.0, adaptive=True, seed=1)


def state(elle):
    return [float(v.numpy()) for v in (elle.current_factor, *elle._statistics)]


def test_the_adaptive_weight_follows_the_errors_of_first_queries_and_survives_saving(tmp_path):
    elle, errors, states = adaptive(), [], []
    wrapped = kr.models.SAM(elle, rho=0.05)
    wrapped.compile(keras.optimizers.SGD(0.05), LOSS)
    for step in range(6):
        # A heavy batch makes the error rise.
        wrapped.train_on_batch(X, Y, sample_weight=np.full(6, 100.0 if step == 4 else 1.0))
        states.append(state(elle))
        count, mean = states[-1][1:3]
        errors.append(count * mean - sum(errors))
    assert [s[1] for s in states] == [1, 2, 3, 4, 5, 6]
    factors = kr.models.ELLE.adaptive_factor(np.array(errors), factor=10.0)
    np.testing.assert_allclose([0.0, *(s[0] for s in states[:-1])], factors, rtol=1e-4)
    assert states[-1][3] == pytest.approx(np.var(errors) * 6, rel=1e-3)
    assert states[4][0] == 10.0 and states[5][0] == pytest.approx(9.9)

    wrapped.save(tmp_path / "elle.keras")
    restored = keras.saving.load_model(tmp_path / "elle.keras")
    assert state(restored.model) == states[-1]
    assert restored.train_on_batch(X, Y) == pytest.approx(wrapped.train_on_batch(X, Y), rel=1e-6)
    assert state(restored.model) == pytest.approx(state(elle))


@pytest.mark.parametrize("errors", [[], [0.5], [1.0, 1.0, 1.0, 1.0, 1.5, 0.2]])
def test_the_adaptive_weights_against_a_plain_loop(errors):
    expected, weight = [], 0.0
    for i, last in enumerate(errors):
        expected.append(weight)
        past = errors[:i]
        risen = len(past) > 2 and last > np.mean(past) + 2.0 * np.std(past)
        weight = 7.0 if risen else 0.5 * weight
    got = kr.models.ELLE.adaptive_factor(np.array(errors, "float32"), factor=7.0, decay=0.5)
    np.testing.assert_allclose(ops.convert_to_numpy(got), expected)


def test_passes_are_counted():
    net, counter = counting_model(inputs=4)
    elle = kr.models.ELLE(net, epsilon=0.1)
    elle.compile("sgd", LOSS)
    elle.train_on_batch(X, Y)
    # The attack, its answer, and the three points at once.
    assert tuple(count(counter, lambda: elle.train_on_batch(X, Y))) == (3, 3, 2)


def test_regression_with_several_inputs_and_batches_of_one():
    a, t = keras.Input((4,), name="a"), keras.Input((2,), dtype="int32", name="t")
    h = layers.Concatenate()([a, layers.Flatten()(layers.Embedding(5, 2)(t))])
    net = keras.Model({"a": a, "t": t}, layers.Dense(1)(layers.Dense(5, "tanh")(h)))
    attack = kr.attacks.PGD(0.1, 0.1, 1, loss="compiled", random_start=False, bounds=None)
    elle = kr.models.ELLE(net, 0.1, attack=attack)
    elle.compile("sgd", "mse")
    x = {"a": X, "t": np.zeros((6, 2), "int32")}
    assert np.isfinite(elle.fit(x, X[:, :1], batch_size=5, verbose=0).history["loss"]).all()


def test_tokens_are_moved_at_their_embedding():
    tokens = RNG.randint(0, 9, (12, 5))
    keras.utils.set_random_seed(0)
    net = keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(9, 4, name="words"),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    labels = RNG.randint(0, 3, 12)
    losses = []
    for factor in (0.0, 1e4):
        attack = kr.attacks.FGSM(0.5, layer="words", bounds=None)
        elle = kr.models.ELLE(net, 0.5, factor=factor, attack=attack, seed=1)
        elle.compile(keras.optimizers.SGD(0.0), LOSS)
        losses.append(elle.train_on_batch(tokens, labels))
    assert losses[1] > losses[0] + 1e-3  # The loss is curved around the embedded words.
    elle = kr.models.ELLE(net, 0.5)
    elle.compile("sgd", LOSS)
    with pytest.raises(ValueError, match="for token ids pass `layer=`"):
        elle.train_on_batch(tokens, labels)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"epsilon": -0.1}, "`epsilon` must be a number at least 0. Received: epsilon=-0.1"),
        ({"factor": -1}, "`factor` must be"),
        ({"decay": 1.5}, "`decay` must be a number at least 0 and at most 1"),
        ({"sensitivity": -1}, "`sensitivity` must be"),
        ({"attack": "fgsm"}, "`attack` must be an attack"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        kr.models.ELLE(model(), **arguments)


def test_training_lowers_the_error():
    x = RNG.normal(size=(100, 4)).astype("float32")
    y = (np.abs(x[:, 0]) > 0.7).astype("int32")
    a, b = x + RNG.uniform(-0.2, 0.2, (2, *x.shape)).astype("float32")
    alpha = RNG.rand(100).astype("float32")
    errors = {}
    for factor in (0.0, 1e4):
        elle = kr.models.ELLE(model(), epsilon=0.2, factor=factor, seed=1)
        elle.compile(keras.optimizers.Adam(0.05), LOSS)
        many = np.tile(x, (60, 1)), np.tile(y, 60)  # One long epoch, as each start costs.
        elle.fit(*many, batch_size=100, verbose=0, shuffle=False)
        errors[factor] = error(elle, a, b, alpha, y)
    assert errors[1e4] < 0.1 * errors[0.0]
