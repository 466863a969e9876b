"""APGD against a loop in float64 NumPy, and what makes it the attack to measure with."""

import keras
import numpy as np
import pytest
from counting import Passes, count, counting_model
from keras import ops
from small_network import Network, assert_same, sample

import keras_regularize as kr
from keras_regularize.attacks.auto_projected_gradient import checkpoints
from tests.helpers import array

BACKEND = keras.backend.backend()
APGD = kr.attacks.APGD
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


# An independent implementation, one sample at a time, with every loss kept


def apgd(network, row, label, epsilon, steps, norm, loss, start, sign=1, bounds=(0, 1), rho=0.75):
    """The result for a row."""

    def project(z):
        if norm == "linf":
            z = np.clip(z, row - epsilon, row + epsilon)
        else:
            z = row + (z - row) * min(1.0, epsilon / (np.linalg.norm(z - row) + 1e-12))
        return np.clip(z, *bounds)

    def direction(g):
        return np.sign(g) if norm == "linf" else g / (np.linalg.norm(g) + 1e-12)

    def at(z):
        value = sign * network.loss(loss, z, label)
        hit = network.logits(z).argmax() == label
        return value, sign * network.gradient(loss, z, label, None), hit == (sign < 0)

    point = previous = best = np.clip(row + start, *bounds)
    value, g, success = at(point)
    found = point if success else None
    best_value, best_gradient = value, g
    history = [0.0]  # The first checkpoint compares the first loss with 0.
    step, halved = 2 * epsilon, True
    window = max(int(0.22 * steps), 1)
    since, last_best = 0, value
    for i in range(steps):
        ahead = project(point + step * direction(g))
        a = 1.0 if i == 0 else 0.75
        point, previous = (
            project(point + a * (ahead - point) + (1 - a) * (point - previous)),
            point,
        )
        value, g, success = at(point)
        if success:
            found = point
        history.append(value)
        if value > best_value:
            best, best_value, best_gradient = point, value, g
        since += 1
        if since == window:
            recent = history[-window - 1 :]
            rises = sum(b > a for a, b in zip(recent, recent[1:]))
            stuck = not halved and last_best >= best_value
            halved = rises <= rho * window or stuck
            if halved:
                step, point, g = step / 2, best, best_gradient
            last_best, since = best_value, 0
            window = max(window - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1))
    return row if found is None else found


def right(network, x, y):
    return array(network.keras(x)).argmax(axis=1) == y


@pytest.mark.parametrize("loss", ["cross_entropy", "dlr"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("sign", "unrolled"), [(1, True), (1, False), (-1, False)])
def test_apgd(loss, norm, sign, unrolled, monkeypatch):
    monkeypatch.setattr(kr.attacks.attack, "UNROLLED_STEPS", 10 if unrolled else 0)
    steps = (
        8  # With more, ties of losses (a corner of the ball seen twice) are decided by rounding.
    )
    network, (x, y) = Network(classes=5, scale=1.5), sample(rows=20, classes=5)
    if sign > 0:
        y = array(network.keras(x)).argmax(axis=1)
    start = np.random.default_rng(2).uniform(-0.1, 0.1, x.shape)
    epsilon = 0.12 if norm == "linf" else 0.3
    found = array(
        APGD(epsilon, steps, norm, loss, targeted=sign < 0)(
            network.keras, x, y, initial_perturbation=start
        )
    )
    rows = zip(np.asarray(x, "float64"), y, start)
    expected = [
        apgd(network, row, label, epsilon, steps, norm, loss, begin, sign)
        for row, label, begin in rows
    ]
    assert_same(found, expected, rtol=1e-4, atol=1e-4)
    fooled = right(network, found, y) == (sign < 0)
    assert 0.1 < fooled.mean() < 1.0
    assert_same(found[~fooled], x[~fooled])


def test_checkpoints_are_those_of_the_paper():
    due = np.nonzero(checkpoints(100))[0] + 1
    np.testing.assert_array_equal(due, [22, 41, 57, 70, 80, 87, 93, 99])
    np.testing.assert_array_equal(np.diff(due), checkpoints(100)[due[1:] - 1])
    for steps in (1, 2, 3, 10, 1000):
        windows = checkpoints(steps)
        assert len(windows) == steps and windows.sum() <= steps


def test_only_what_fools_the_model_is_returned():
    # A linear model of class 1 for x > 0.5: a row is turned or returned as it is.
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2)])
    model.set_weights([np.float32([[-4.0, 4.0]]), np.float32([2.0, -2.0])])
    x = np.float32([[0.55], [0.9], [0.45], [0.2]])
    y = np.array([1, 1, 0, 0])
    found = array(APGD(0.1, 10, seed=0)(model, x, y))
    np.testing.assert_array_equal(found[[1, 3]], x[[1, 3]])
    assert 0.45 - 1e-6 <= found[0, 0] < 0.5 < found[2, 0] <= 0.55 + 1e-6


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_starts_lie_on_the_sphere_and_results_in_ball_and_bounds(norm):
    network = Network()
    x = np.random.default_rng(0).uniform(0.3, 0.7, (50, 5)).astype("float32")
    y = 1 + array(network.keras(x)).argmax(axis=1) % 3  # Wrong at once: the last iterate.
    order = np.inf if norm == "linf" else 2
    attack = APGD(0.2, 1, norm, seed=0)
    start = array(attack._start(_Start(x), None)[0])
    np.testing.assert_allclose(np.linalg.norm(start - x, order, axis=1), 0.2, rtol=1e-4)
    assert len(np.unique(start - x)) > 100
    found = array(APGD(0.45, 4, norm, seed=0)(network.keras, x, y))
    assert found.min() >= 0.0 and found.max() <= 1.0
    assert np.linalg.norm(found - x, order, axis=1).max() <= 0.45 + 1e-5
    assert (np.abs(found - x).max(axis=1) > 1e-3).any()


class _Start:
    def __init__(self, x):
        self.start = [ops.convert_to_tensor(x)]


def test_restarts_fool_more_and_lose_none():
    network, (x, _) = Network(scale=6.0, classes=5), sample(rows=150)
    y = array(network.keras(x)).argmax(axis=1)

    def fooled(restarts):
        found = APGD(0.12, 2, "l2", "dlr", restarts=restarts, seed=0)(network.keras, x, y)
        return ~right(network, found, y)

    once, often = fooled(1), fooled(4)
    assert (often | ~once).all()
    assert often.sum() > once.sum()


def test_several_inputs_are_moved_jointly_and_a_layer_by_itself():
    a, b = keras.Input((2,), name="a"), keras.Input((1,), name="b")
    net = keras.Model({"a": a, "b": b}, keras.layers.Dense(4)(keras.layers.Concatenate()([a, b])))
    rng = np.random.default_rng(0)
    x = {"a": rng.random((9, 2), "float32"), "b": rng.random((9, 1), "float32")}
    y = array(net(x)).argmin(axis=1)  # Wrong at once.
    found = APGD(0.2, 5, "l2", bounds=None, seed=0)(net, x, y)
    joint = sum(np.sum((array(found[k]) - x[k]) ** 2, axis=1) for k in x)
    np.testing.assert_allclose(np.sqrt(joint), 0.2, rtol=1e-3)

    reader = keras.Sequential(
        [
            keras.Input((2,), dtype="int32"),
            keras.layers.Embedding(6, 3, name="words"),
            keras.layers.Flatten(),
            keras.layers.Dense(4),
        ]
    )
    tokens = rng.integers(0, 6, (7, 2))
    (moves,) = APGD(0.5, 5, "l2", bounds=None, layer="words")(
        reader, tokens, array(reader(tokens)).argmin(axis=1)
    )
    assert moves.shape == (7, 2, 3)
    assert np.sqrt(np.sum(array(moves) ** 2, axis=(1, 2))).max() <= 0.5 + 1e-5


def test_binary_models_of_one_column_and_positions():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, "sigmoid")])
    model.set_weights([np.float32([[1.0], [-2.0], [0.5]]), np.float32([0.1])])
    model.compile("sgd", "binary_crossentropy")
    x = np.random.default_rng(0).random((40, 3), "float32")
    y = (array(model(x))[:, 0] > 0.5).astype("int32")
    # The margin of a linear model falls by epsilon times the 1-norm of its weights.
    logit = x @ np.float32([1.0, -2.0, 0.5]) + 0.1
    expected = np.mean(np.abs(logit) > 0.1 * 3.5)
    found = APGD(0.1, 20, bounds=None, seed=0)
    assert kr.analysis.robust_accuracy(model, x, y, found) == pytest.approx(expected)
    assert 0.1 < expected < 0.9
    with pytest.raises(ValueError, match="'dlr' needs at least 3 classes"):
        APGD(0.1, 2, loss="dlr")(model, x, y)

    tagger = keras.Sequential([keras.Input((4, 2)), keras.layers.Dense(3)])
    x = np.random.default_rng(1).random((6, 4, 2), "float32")
    y = array(tagger(x)).argmax(axis=-1)
    found = APGD(0.3, 5, seed=0)(tagger, x, y)
    moved = np.abs(array(found) - x).max(axis=(1, 2)) > 0
    np.testing.assert_array_equal((array(tagger(found)).argmax(-1) != y).any(axis=1), moved)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_precisions(dtype):
    network, (x, y) = Network(), sample()
    x = ops.cast(x, dtype) if dtype == "float16" else x.astype("float64")
    found = APGD(0.2, 3, "l2", seed=0)(network.keras, x, y)
    assert np.isfinite(array(ops.cast(found, "float32"))).all()


def test_passes():
    model, counter = counting_model()
    x, y = sample(inputs=4, classes=3)
    for steps in (1, 5, 22):
        attack = APGD(0.1, steps)
        passes = count(counter, lambda attack=attack: attack(model, x, y))
        assert passes == Passes(steps + 1, steps + 1, 0)
    assert count(counter, lambda: APGD(0.1, 2, restarts=2)(model, x, y)) == Passes(6, 6, 0)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_compiled_with_unknown_batch_size(norm, monkeypatch):
    monkeypatch.setattr(
        kr.attacks.attack, "UNROLLED_STEPS", 0
    )  # A loop, and few steps: see `test_apgd`.
    network, (x, y) = Network(), sample(rows=10)
    start = np.full_like(x, 0.02)
    attack = APGD(0.2, 6, norm)

    def run(x, y, start):
        return attack(network.keras, x, y, initial_perturbation=start)

    expected = array(run(x, y, start))
    if BACKEND == "jax":
        import jax

        assert_same(jax.jit(run)(x, y, start), expected)
    elif BACKEND == "tensorflow":
        import tensorflow as tf

        assert_same(tf.function(run, jit_compile=True)(x, y, start), expected)
        rows = tf.TensorSpec((None, 5))
        spec = [rows, tf.TensorSpec((None,), tf.int64), rows]
        dynamic = tf.function(run, input_signature=spec)
        assert_same(dynamic(x, y, start), expected)
        assert_same(dynamic(x[:2], y[:2], start[:2]), expected[:2])


def test_training_with_it():
    x, y = sample(rows=12)
    model = kr.models.AdversarialTraining(Network().keras, APGD(0.1, 3, seed=0))
    model.compile(keras.optimizers.SGD(0.1), CROSSENTROPY)
    assert np.isfinite(model.fit(x, y, batch_size=6, verbose=0).history["loss"]).all()


def test_bad_arguments():
    with pytest.raises(ValueError, match="`epsilon` must be a number at least 0"):
        APGD(-1.0)
    for steps in (0, 2.5, None):
        with pytest.raises(ValueError, match="`steps` must be an integer of at least 1"):
            APGD(0.1, steps)
    with pytest.raises(ValueError, match="`norm` must be one of 'linf', 'l2'"):
        APGD(0.1, norm="l1")
    with pytest.raises(ValueError, match="`loss` must be one of 'cross_entropy', 'dlr'"):
        APGD(0.1, loss="margin")
    for rho in (-0.1, 1.5):
        with pytest.raises(ValueError, match="`rho` must be a number at least 0 and at most 1"):
            APGD(0.1, rho=rho)
    with pytest.raises(ValueError, match="`restarts` must be an integer of at least 1"):
        APGD(0.1, restarts=0)
    with pytest.raises(ValueError, match="pass `bounds=None`"):
        APGD(0.1, layer="words")
    with pytest.raises(ValueError, match="needs labels"):
        APGD(0.1)(Network().keras, sample()[0])
