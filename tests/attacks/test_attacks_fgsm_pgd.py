"""FGSM and PGD against loops in float64 NumPy, and what every attack promises."""

import json

import keras
import numpy as np
import pytest
from counting import Passes, count, counting_model
from keras import ops
from small_network import Network, assert_same, sample, softmax

import keras_regularize as kr
from keras_regularize.attacks.points import perturbed_output
from tests.helpers import array

BACKEND = keras.backend.backend()
FGSM, PGD = kr.attacks.FGSM, kr.attacks.PGD
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


# An independent implementation, one sample at a time


def pgd(network, x, y, epsilon, step_size, steps, norm, loss, bounds, start=None):
    found = []
    for i, row in enumerate(np.asarray(x, "float64")):
        clean, moved = network.logits(row), row + (0 if start is None else start[i])
        if bounds is not None:
            moved = np.clip(moved, *bounds)
        for _ in range(steps):
            g = network.gradient(loss, moved, None if y is None else y[i], clean)
            if norm == "linf":
                moved = moved + step_size * np.sign(g)
                moved = np.clip(moved, row - epsilon, row + epsilon)
            else:
                moved = moved + step_size * g / (np.sqrt(np.sum(g**2)) + 1e-10)
                length = np.sqrt(np.sum((moved - row) ** 2))
                moved = row + (moved - row) * min(1.0, epsilon / (length + 1e-12))
            if bounds is not None:
                moved = np.clip(moved, *bounds)
        found.append(moved)
    return np.stack(found)


# Against the oracle


@pytest.mark.parametrize("bounds", [(0.0, 1.0), None])
def test_fgsm(bounds):
    network, (x, y) = Network(), sample()
    found = FGSM(epsilon=0.2, bounds=bounds)(network.keras, x, y)
    expected = pgd(network, x, y, 0.2, 0.2, 1, "linf", "cross_entropy", bounds)
    assert_same(found, expected)
    assert np.abs(array(found) - x).max() > 0.19


@pytest.mark.parametrize("loss", ["cross_entropy", "kl", "margin", "dlr"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("steps", [1, 4])
def test_pgd(loss, norm, steps):
    network, (x, y) = Network(), sample()
    if loss == "dlr":  # Where the label ranks third, its guard's slope of 1e-12 is all there is.
        y[:3] = [np.argsort(network.logits(row))[-3] for row in x[:3]]
    start = np.random.default_rng(2).uniform(-0.1, 0.1, x.shape)
    attack = PGD(0.3, 0.12, steps, norm, loss)
    found = attack(network.keras, x, y, initial_perturbation=start)
    assert_same(found, pgd(network, x, y, 0.3, 0.12, steps, norm, loss, (0, 1), start))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_many_short_steps(norm):
    network, (x, y) = Network(), sample()
    steps = 23
    # A step so short that the ball is not reached: each of the steps counts.
    found = PGD(0.3, 0.02, steps, norm, random_start=False)(network.keras, x, y)
    assert_same(found, pgd(network, x, y, 0.3, 0.02, steps, norm, "cross_entropy", (0, 1)))


@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_targeted_attacks_descend_towards_the_labels(loss, norm):
    network, (x, _) = Network(), sample()
    targets = np.array([network.logits(row).argmin() for row in x])
    start = np.random.default_rng(2).uniform(-0.1, 0.1, x.shape)
    attack = PGD(0.9, 0.12, 25, norm, loss, targeted=True)
    found = attack(network.keras, x, targets, initial_perturbation=start)
    expected = pgd(network, x, targets, 0.9, -0.12, 25, norm, loss, (0, 1), start)
    assert_same(found, expected, rtol=1e-3, atol=1e-4)
    reached = network.keras.predict(found, verbose=0).argmax(axis=1) == targets
    assert reached.any() and not (network.keras.predict(x, verbose=0).argmax(1) == targets).any()
    if norm == "linf" and loss == "cross_entropy":
        found = FGSM(0.2, targeted=True)(network.keras, x, targets)
        assert_same(found, pgd(network, x, targets, 0.2, -0.2, 1, norm, loss, (0, 1)))


def test_restarts_of_a_targeted_attack_keep_the_smallest_loss():
    network, (x, y) = Network(scale=4.0), sample(rows=40)

    def reached(restarts):
        attack = PGD(0.4, 0.3, 1, "l2", restarts=restarts, seed=0, targeted=True)
        found = array(attack(network.keras, x, y)).astype("float64")
        return np.array([network.loss("cross_entropy", row, t) for row, t in zip(found, y)])

    once, often = reached(1), reached(5)
    assert (often <= once + 1e-5).all()
    assert (often < once - 1e-3).any()


def test_no_labels_are_needed_for_kl():
    network, (x, _) = Network(), sample()
    start = np.full_like(x, 0.05)
    found = PGD(0.2, 0.1, 2, loss="kl")(network.keras, x, initial_perturbation=start)
    assert_same(found, pgd(network, x, None, 0.2, 0.1, 2, "linf", "kl", (0, 1), start))


@pytest.mark.parametrize("labels", ["rows", "column", "float", "soft"])
def test_forms_of_labels(labels):
    network, (x, y) = Network(), sample()
    rows = np.eye(4, dtype="float32")[y]
    given = {"rows": rows, "column": y[:, None], "float": y.astype("float32"), "soft": rows}[labels]
    attack = PGD(0.2, 0.1, 2, "l2", random_start=False)
    assert_same(attack(network.keras, x, given), array(attack(network.keras, x, y)))
    margin = PGD(0.2, 0.1, 2, "l2", "margin", random_start=False)
    assert_same(margin(network.keras, x, given), array(margin(network.keras, x, y)))


def test_soft_labels_give_the_expected_cross_entropy():
    network, (x, _) = Network(), sample()
    rows = np.random.default_rng(3).dirichlet(np.ones(4), 6)
    first, second, _ = network.weights
    found = PGD(9.0, 0.5, 1, "l2", random_start=False, bounds=None)(network.keras, x, rows)
    for i in range(6):
        z = network.logits(x[i].astype("float64"))
        g = first @ ((1 - np.tanh(x[i] @ first) ** 2) * (second @ (softmax(z) - rows[i])))
        assert_same(array(found)[i], x[i] + 0.5 * g / np.linalg.norm(g))


# Geometry


def linear(kernel, bias=0.0, last=None, inputs=None):
    kernel = np.asarray(kernel, "float32")
    model = keras.Sequential(
        [keras.Input((kernel.shape[0],)), keras.layers.Dense(kernel.shape[1], last)]
    )
    model.set_weights([kernel, np.zeros(kernel.shape[1]) + bias])
    return model


def test_the_ball_comes_before_the_bounds():
    model = linear([[1.0, -1.0]])  # the loss of class 1 rises with x
    x, y = np.float32([[0.95], [1.09], [-0.09]]), np.array([1, 1, 1])
    for attack in (FGSM(0.1), PGD(0.1, 0.1, 3), PGD(0.1, 0.1, 3, "l2")):
        assert_same(attack(model, x, y), [[1.0], [1.0], [0.01]])
    x = np.float32([[0.95], [1.3], [-0.5]])
    for attack in (FGSM(0.1, None), PGD(0.1, 1.0, 3, "l2", bounds=None, random_start=False)):
        assert_same(attack(model, x, y), [[1.05], [1.4], [-0.4]])


def test_l2_norms_are_per_sample_and_over_all_axes():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(12, 3)).astype("float32")
    model = keras.Sequential(
        [keras.Input((2, 2, 3)), keras.layers.Flatten(), keras.layers.Dense(3, use_bias=False)]
    )
    model.set_weights([kernel])
    x = (
        rng.normal(size=(4, 2, 2, 3)).astype("float32")
        * np.float32([1, 10, 0.1, 1])[:, None, None, None]
    )
    y = np.array([0, 1, 2, 0])
    found = array(PGD(0.5, 0.3, 6, "l2", bounds=None)(model, x, y))
    lengths = np.sqrt(np.sum((found - x).reshape(4, -1) ** 2, axis=1))
    assert_same(lengths, np.full(4, 0.5), rtol=1e-3)  # the steps sum to more than the radius
    one = array(PGD(0.5, 0.3, 1, "l2", bounds=None, random_start=False)(model, x, y))
    assert_same(np.sqrt(np.sum((one - x).reshape(4, -1) ** 2, axis=1)), np.full(4, 0.3), rtol=1e-3)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_results_do_not_depend_on_the_batch(norm):
    network, (x, y) = Network(), sample()
    attack = PGD(0.2, 0.07, 3, norm, random_start=False)
    together = array(attack(network.keras, x, y))
    for i in (0, 4):
        assert_same(attack(network.keras, x[i : i + 1], y[i : i + 1]), together[i : i + 1])


def test_tiny_gradients_do_not_depend_on_the_batch():
    # Where the constant in `g / (|g| + 1e-10)` counts, the mean of the losses would be seen.
    model, (x, y) = linear(1e-10 * np.random.default_rng(0).normal(size=(5, 4))), sample()
    attack = PGD(0.2, 0.1, 1, "l2", random_start=False)
    together = array(attack(model, x, y))
    assert np.abs(together - x).max() > 0.01
    assert_same(attack(model, x[:1], y[:1]), together[:1])


def test_loss_rises_with_epsilon():
    rng = np.random.default_rng(0)
    model = linear(rng.normal(size=(5, 4)))
    x, y = sample()
    losses = []
    for epsilon in (0.0, 0.05, 0.1, 0.2, 0.4):
        for attack in (
            FGSM(epsilon, bounds=None),
            PGD(epsilon, 0.4, 5, bounds=None),
            PGD(epsilon, 0.4, 5, "l2", bounds=None),
        ):
            found = attack(model, x, y)
            losses.append(
                array(keras.losses.sparse_categorical_crossentropy(y, model(found), True))
            )
    losses = np.reshape(losses, (5, 3, -1))
    np.testing.assert_allclose(losses[0, 0], losses[0, 2], rtol=1e-5)
    assert (np.diff(losses, axis=0) > -1e-5).all()
    assert (losses[-1] > losses[0] + 0.05).all()


def test_zero_epsilon_and_zero_steps_return_the_input():
    network, (x, y) = Network(), sample()
    for attack in (FGSM(0.0), PGD(0.0, 0.1, 3), PGD(0.0, 0.1, 3, "l2")):
        assert_same(attack(network.keras, x, y), x, atol=1e-7)
    np.testing.assert_array_equal(array(PGD(steps=0, random_start=False)(network.keras, x, y)), x)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_constant_model_leaves_the_input(dtype):
    model = linear(np.zeros((5, 4)))
    x, y = sample()
    x = ops.cast(x, dtype)
    for attack in (
        FGSM(0.1),
        PGD(0.1, 0.05, 2, random_start=False),
        PGD(0.1, 0.05, 2, "l2", random_start=False),
        PGD(0.1, 0.05, 2, "l2", "margin", random_start=False),
    ):
        found = attack(model, x, y)
        assert found.dtype == x.dtype
        np.testing.assert_array_equal(
            array(ops.cast(found, "float32")), array(ops.cast(x, "float32"))
        )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_precisions(dtype):
    network, (x, y) = Network(), sample()
    x = ops.cast(x, dtype) if dtype != "float64" else ops.convert_to_tensor(x.astype("float64"))
    rounded = array(ops.cast(x, "float32")).astype("float64")
    tolerance = {"float16": 1e-3, "bfloat16": 1e-2, "float64": 1e-5}[dtype]
    for norm in ("linf", "l2"):
        found = PGD(0.1, 0.01, 4, norm, random_start=False)(network.keras, x, y)
        assert found.dtype == x.dtype
        expected = pgd(network, rounded, y, 0.1, 0.01, 4, norm, "cross_entropy", (0, 1))
        assert_same(ops.cast(found, "float32"), expected, atol=tolerance)
        assert array(ops.cast(PGD(norm=norm)(network.keras, x, y), "float32")).max() <= 1.0


def test_saturated_logits_stay_finite():
    kernel = np.zeros((5, 4))
    kernel[0] = [1e4, -1e4, 0.0, 2.0]
    model, (x, y) = linear(kernel), sample()
    x[0] = 0.0
    for loss in ("cross_entropy", "kl", "margin", "dlr"):
        for norm in ("linf", "l2"):
            found = array(PGD(0.1, 0.05, 3, norm, loss, bounds=None)(model, x, y))
            assert np.isfinite(found).all()
            assert np.abs(found - x).max() <= 0.1 + 1e-6


def test_empty_batch_and_batch_of_one():
    network, (x, y) = Network(), sample()
    attacks = [FGSM(), PGD(steps=1, norm="l2", restarts=2)]
    attacks += [PGD(steps=1, loss=loss) for loss in ("kl", "margin", "dlr")]
    for attack in attacks:
        assert array(attack(network.keras, x[:0], y[:0])).shape == (0, 5)
        assert array(attack(network.keras, x[:1], y[:1])).shape == (1, 5)


# Random starts


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("random_start", [True, "uniform", "gaussian"])
def test_random_starts(norm, random_start):
    network = Network()
    x = np.random.default_rng(0).uniform(0.2, 0.8, (400, 5)).astype("float32")
    y = np.zeros(400, "int32")

    def start(**arguments):
        arguments = {"random_start": random_start, "seed": 3, **arguments}
        return PGD(0.2, 0.1, 0, norm, **arguments)

    attack = start()
    first, second = array(attack(network.keras, x, y)), array(attack(network.keras, x, y))
    np.testing.assert_array_equal(array(start()(network.keras, x, y)), first)
    assert (first != second).any(axis=1).all()
    assert (array(start(seed=4)(network.keras, x, y)) != first).any()
    moves = first - x
    assert len(np.unique(moves)) > 1000  # no noise shared by samples
    if random_start == "gaussian":
        np.testing.assert_allclose(moves.std(), 0.001, rtol=0.1)
        np.testing.assert_allclose(moves.mean(), 0.0, atol=2e-4)
    elif norm == "linf":
        assert np.abs(moves).max() <= 0.2 + 1e-6
        np.testing.assert_allclose(moves.std(), 0.2 / np.sqrt(3), rtol=0.05)
    else:
        radii = np.linalg.norm(moves, axis=1)
        assert radii.max() <= 0.2 + 1e-6
        np.testing.assert_allclose(radii.mean(), 0.1, rtol=0.1)  # the radius is uniform
        np.testing.assert_allclose(radii.std(), 0.2 / np.sqrt(12), rtol=0.15)


@pytest.mark.parametrize("random_start", [True, "gaussian"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_results_are_inside_ball_and_bounds(norm, random_start):
    network, (x, y) = Network(), sample(rows=40)
    found = array(PGD(0.3, 0.2, 3, norm, random_start=random_start)(network.keras, x, y))
    assert found.min() >= 0.0 and found.max() <= 1.0
    order = np.inf if norm == "linf" else 2
    assert np.linalg.norm(found - x, order, axis=1).max() <= 0.3 + 1e-5
    start = array(PGD(0.3, 0.2, 0, norm, random_start=random_start)(network.keras, x, y))
    assert start.min() >= 0.0 and start.max() <= 1.0


@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
def test_restarts_never_lower_the_loss(loss):
    network, (x, y) = Network(scale=4.0), sample(rows=40)

    def reached(restarts):
        attack = PGD(0.4, 0.3, 1, "l2", loss, restarts=restarts, seed=0)
        found = array(attack(network.keras, x, y)).astype("float64")
        return np.array([network.loss(loss, row, label) for row, label in zip(found, y)])

    once, often = reached(1), reached(5)
    assert (often >= once - 1e-5).all()
    assert (often > once + 1e-3).any()


def test_restarts_keep_a_row_as_a_whole():
    # Each row must be one of the runs: rows of several runs are not mixed up.
    network, (x, y) = Network(), sample(rows=40)
    attack = PGD(0.3, 0.1, 0, restarts=3, seed=5)
    found = array(attack(network.keras, x, y))
    single = PGD(0.3, 0.1, 0, seed=5)
    runs = np.stack([array(single(network.keras, x, y)) for _ in range(3)])
    losses = np.array(
        [[network.loss("cross_entropy", r, label) for r, label in zip(run, y)] for run in runs]
    )
    np.testing.assert_array_equal(found, runs[losses.argmax(axis=0), np.arange(40)])
    assert len(set(losses.argmax(axis=0))) == 3


# What is maximized


def test_compiled_loss_of_a_regression():
    model = linear([[1.0], [-2.0]], bias=0.5)
    model.compile("sgd", "mse")
    x, y = np.float32([[0.5, 0.5], [0.2, 0.1]]), np.float32([[5.0], [-5.0]])
    found = PGD(0.1, 0.05, 3, loss="compiled", random_start=False)(model, x, y)
    assert_same(found, x + 0.1 * np.float32([[-1, 1], [1, -1]]))


def test_compiled_loss_of_several_outputs():
    inputs = keras.Input((2,))
    outputs = {
        name: keras.layers.Dense(1, use_bias=False, name=name)(inputs) for name in ("a", "b")
    }
    model = keras.Model(inputs, outputs)
    model.set_weights([np.float32([[1.0], [0.0]]), np.float32([[0.0], [1.0]])])
    model.compile("sgd", {"a": "mse", "b": "mse"})
    x = np.float32([[0.5, 0.5]])
    y = {"a": np.float32([[1.0]]), "b": np.float32([[0.0]])}
    found = PGD(0.1, 0.1, 1, loss="compiled", random_start=False)(model, x, y)
    assert_same(found, [[0.4, 0.6]])
    with pytest.raises(ValueError, match=r"Expected one output that has a loss"):
        FGSM()(model, x, np.array([0]))


@pytest.mark.parametrize("last", [None, "sigmoid"])
def test_binary_models_of_one_column(last):
    kernel = np.array([[1.0], [-2.0], [0.5]])
    model = linear(kernel, bias=0.3, last=last)
    model.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=last is None))
    x, _ = sample(inputs=3)
    y = np.array([0, 1, 1, 0, 1, 0])
    sign = 1 - 2 * y[:, None]  # (sigmoid(z) - y) w
    for labels in (y, y[:, None], y.astype("float32"), np.eye(2)[y]):
        found = FGSM(0.1, bounds=None)(model, x, labels)
        assert_same(found, x + 0.1 * sign * np.sign(kernel.T))
    expected = x + 0.2 * sign * kernel.T / np.linalg.norm(kernel)
    for loss in ("cross_entropy", "margin"):
        found = PGD(0.5, 0.2, 1, "l2", loss, bounds=None, random_start=False)(model, x, y)
        assert_same(found, expected)
    kl = PGD(0.3, 0.1, 2, "l2", "kl", bounds=None)(model, x)
    assert np.isfinite(array(kl)).all()


def test_logits_or_probabilities_are_read_from_the_compiled_loss():
    logits, probabilities = Network(), Network(last="softmax")
    x, y = sample()
    expected = pgd(logits, x, y, 0.3, 0.1, 3, "l2", "cross_entropy", (0, 1))
    attack = PGD(0.3, 0.1, 3, "l2", random_start=False)

    assert_same(attack(logits.keras, x, y), expected)  # not compiled: logits
    for loss in (CROSSENTROPY, [CROSSENTROPY], {"dense": CROSSENTROPY}):
        logits.keras.compile("sgd", loss)
        assert_same(attack(logits.keras, x, y), expected)
    for loss in ("sparse_categorical_crossentropy", keras.losses.CategoricalCrossentropy()):
        probabilities.keras.compile("sgd", loss)
        assert_same(attack(probabilities.keras, x, y), expected, rtol=1e-3, atol=1e-4)

    def bare(x, training=False):
        return probabilities.keras(x, training=training)

    told = PGD(0.3, 0.1, 3, "l2", random_start=False, from_logits=False)
    assert_same(told(bare, x, y), expected, rtol=1e-3, atol=1e-4)
    assert_same(told(probabilities.keras, x, y), expected, rtol=1e-3, atol=1e-4)


def test_a_wrapper_is_attacked_like_its_model():
    network, (x, y) = Network(last="softmax"), sample()
    attack = PGD(0.3, 0.1, 2, "l2", random_start=False)
    wrapper = kr.models.RegularizedModel(network.keras)
    wrapper.compile("sgd", "sparse_categorical_crossentropy")
    expected = pgd(network, x, y, 0.3, 0.1, 2, "l2", "cross_entropy", (0, 1))
    assert_same(attack(wrapper, x, y), expected, rtol=1e-3, atol=1e-4)


def test_predictions_at_every_position():
    kernel = np.random.default_rng(0).normal(size=(2, 3)).astype("float32")
    model = keras.Sequential([keras.Input((4, 2)), keras.layers.Dense(3, use_bias=False)])
    model.set_weights([kernel])
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(5, 4, 2)).astype("float32"), rng.integers(0, 3, (5, 4))
    found = array(FGSM(0.1, bounds=None)(model, x, y))
    for i in range(5):
        for t in range(4):
            slope = softmax(x[i, t] @ kernel) - np.eye(3)[y[i, t]]
            assert_same(found[i, t], x[i, t] + 0.1 * np.sign(kernel @ slope))
    for loss in ("margin", "kl"):
        repeated = PGD(0.1, 0.05, 1, loss=loss, restarts=2, bounds=None)(model, x, y)
        assert np.abs(array(repeated) - x).max() <= 0.1 + 1e-5


# Structures of inputs


def two_inputs(structure):
    """Logits `[a·u + b·v + e(ids), 0]` of floating `a`, `b` and integer `ids`."""
    a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    ids = keras.Input((), dtype="int32", name="ids")
    terms = [
        keras.layers.Dense(2, use_bias=False)(a),
        keras.layers.Dense(2, use_bias=False)(b),
        keras.layers.Embedding(4, 2)(ids),
    ]
    inputs = {"a": a, "b": b, "ids": ids} if structure == "dict" else [a, ids, b]
    model = keras.Model(inputs, keras.layers.Add()(terms))
    model.compile(loss=CROSSENTROPY)
    u, v = np.float32([3.0, -1.0]), np.float32([1.0, 2.0, -2.0])
    for layer in model.layers:
        if isinstance(layer, keras.layers.Embedding):
            layer.set_weights([np.zeros((4, 2))])
        elif isinstance(layer, keras.layers.Dense):
            kernel = u if layer.kernel.shape[0] == 2 else v
            layer.set_weights([np.stack([kernel, 0 * kernel], axis=1)])
    rng = np.random.default_rng(0)
    x = {"a": rng.normal(size=(4, 2)), "b": rng.normal(size=(4, 3)), "ids": np.arange(4) % 4}
    x["a"], x["b"] = x["a"].astype("float32"), x["b"].astype("float32")
    x = x if structure == "dict" else [x["a"], x["ids"], x["b"]]
    return model, x, u, v


@pytest.mark.parametrize("structure", ["dict", "list"])
def test_inputs_of_several_tensors_are_moved_jointly(structure):
    model, x, u, v = two_inputs(structure)
    a, b, ids = ("a", "b", "ids") if structure == "dict" else (0, 2, 1)
    y = np.ones(4, "int32")  # pushed towards class 0
    found = FGSM(0.1, bounds=None, from_logits=True)(model, x, y)
    assert type(found) is type(x)
    assert_same(found[a], x[a] + 0.1 * np.sign(u))
    assert_same(found[b], x[b] + 0.1 * np.sign(v))
    np.testing.assert_array_equal(array(found[ids]), x[ids])
    assert "int" in keras.backend.standardize_dtype(found[ids].dtype)

    length = np.sqrt(np.sum(u**2) + np.sum(v**2))  # one ball for both
    found = PGD(0.5, 0.4, 4, "l2", random_start=False, bounds=None, from_logits=True)(model, x, y)
    assert_same(found[a], x[a] + 0.5 * u / length, rtol=1e-3, atol=1e-4)
    assert_same(found[b], x[b] + 0.5 * v / length, rtol=1e-3, atol=1e-4)

    start = PGD(0.5, 0.4, 0, "l2", bounds=None, from_logits=True)(model, x, y)
    joint = np.sum((array(start[a]) - x[a]) ** 2, 1) + np.sum((array(start[b]) - x[b]) ** 2, 1)
    assert np.sqrt(joint).max() <= 0.5 + 1e-5 and joint.min() > 0


@pytest.mark.parametrize("structure", ["dict", "list"])
def test_a_given_start_has_the_structure_of_the_inputs(structure):
    model, x, _, _ = two_inputs(structure)
    a, b, ids = ("a", "b", "ids") if structure == "dict" else (0, 2, 1)
    given = {a: np.full((4, 2), 0.1), b: np.full((4, 3), 0.2), ids: np.zeros(4)}
    given = given if structure == "dict" else [given[i] for i in range(3)]
    attack = PGD(0.5, 0.4, 0, bounds=None, from_logits=True)
    found = attack(model, x, np.ones(4), initial_perturbation=given)
    assert_same(found[a], x[a] + 0.1)
    assert_same(found[b], x[b] + 0.2)
    with pytest.raises(ValueError, match=r"structure of what is perturbed.* received \[\(4, 2\)\]"):
        attack(model, x, np.ones(4), initial_perturbation=[np.ones((4, 2))])
    given[b] = given[b][:, :2]
    with pytest.raises(ValueError, match=r"Expected tensors of shapes.* received \[.*\(4, 2\)"):
        attack(model, x, np.ones(4), initial_perturbation=given)


def test_optional_inputs_may_be_missing():
    class Head(keras.layers.Layer):
        def call(self, inputs):
            x, labels = inputs
            return x if labels is None else x - ops.one_hot(labels, 3)

    x_in, labels_in = keras.Input((3,)), keras.Input((), dtype="int32", optional=True)
    model = keras.Model([x_in, labels_in], Head()([x_in, labels_in]))
    model.compile(loss=CROSSENTROPY)
    x = np.zeros((2, 3), "float32")
    found, missing = FGSM(0.1, bounds=None, from_logits=True)(model, [x, None], np.array([0, 1]))
    assert missing is None
    assert_same(found, [[-0.1, 0.1, 0.1], [0.1, -0.1, 0.1]])
    found, missing = kr.attacks.VirtualAdversarial(1.0, from_logits=True)(model, [x, None])
    assert missing is None
    assert_same(np.linalg.norm(array(found), axis=1), np.ones(2))


def test_inputs_of_different_precision():
    model, x, u, v = two_inputs("dict")
    x = {**x, "b": x["b"].astype("float64"), "a": x["a"].astype("float16")}
    y = np.ones(4, "int32")
    found = PGD(0.5, 0.4, 4, "l2", random_start=False, bounds=None, from_logits=True)(model, x, y)
    length = np.sqrt(np.sum(u**2) + np.sum(v**2))
    assert_same(found["a"], x["a"] + 0.5 * u / length, atol=5e-3)
    assert_same(found["b"], x["b"] + 0.5 * v / length, rtol=1e-3, atol=1e-4)
    assert keras.backend.standardize_dtype(found["a"].dtype) == "float16"


# layer=


@pytest.mark.parametrize("loss", ["cross_entropy", "margin", "dlr"])
@pytest.mark.parametrize("form", ["ids", "column", "rows"])
def test_samples_without_a_label_stay_where_they_are(loss, form):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    x = np.random.default_rng(0).random((4, 3)).astype("float32")
    y = np.array([1, -1, 3, -1])
    rows = np.where(y[:, None] < 0, -1.0, np.eye(4)[y])
    given = {"ids": y, "column": y[:, None], "rows": rows}[form]
    attack = PGD(0.1, 0.05, 2, loss=loss, random_start=False, bounds=None)
    found = array(attack(model, x, given))
    assert np.array_equal(found[y < 0], x[y < 0])
    alone = array(attack(model, x[y >= 0], y[y >= 0]))
    assert np.array_equal(found[y >= 0], alone)
    assert np.abs(alone - x[y >= 0]).max() > 0.01


class Reader(keras.Model):
    def __init__(self):
        super().__init__()
        self.embedding = keras.layers.Embedding(6, 3, name="words")
        self.flatten = keras.layers.Flatten()
        self.head = keras.layers.Dense(4)

    def call(self, x):
        return self.head(self.flatten(self.embedding(x)))


class Lookup(keras.layers.Layer):
    """A layer that is made of others."""

    def __init__(self):
        super().__init__()
        self.parts = [keras.layers.Embedding(6, 3, name="words"), keras.layers.Flatten()]

    def call(self, x):
        return self.parts[1](self.parts[0](x))


def reader(kind):
    """`(model, embedding layer)` of token ids `(batch, 2)` to four logits."""
    embedding = keras.layers.Embedding(6, 3, name="words")
    if kind == "subclassed":
        model = Reader()
        model(np.zeros((1, 2), "int32"))
        model.compile(loss=CROSSENTROPY)
        return model, model.embedding
    parts = [embedding, keras.layers.Flatten()]
    if kind == "in a layer":
        layer = Lookup()
        model = keras.Sequential([keras.Input((2,), dtype="int32"), layer, keras.layers.Dense(4)])
        return model, layer.parts[0]
    if kind == "sequential":
        return keras.Sequential(
            [keras.Input((2,), dtype="int32"), *parts, keras.layers.Dense(4)]
        ), embedding
    tokens = keras.Input((2,), dtype="int32")
    if kind == "functional":
        return keras.Model(tokens, keras.layers.Dense(4)(parts[1](embedding(tokens)))), embedding
    body = keras.Sequential([keras.Input((2,), dtype="int32"), *parts], name="body")
    return keras.Model(tokens, keras.layers.Dense(4)(body(tokens))), embedding


@pytest.mark.parametrize(
    "kind", ["functional", "sequential", "subclassed", "nested", "in a layer", "wrapped"]
)
def test_the_output_of_a_layer_is_perturbed(kind):
    model, embedding = reader("sequential" if kind == "wrapped" else kind)
    if kind == "wrapped":
        model = kr.models.RegularizedModel(model)
        model(np.zeros((1, 2), "int32"))
    rng = np.random.default_rng(0)
    table, kernel = rng.normal(size=(6, 3)), rng.normal(size=(6, 4))
    embedding.set_weights([table])
    head = next(v for v in model.trainable_variables if tuple(v.shape) == (6, 4))
    head.assign(kernel)
    tokens, y = np.array([[0, 3], [5, 5], [1, 2]]), np.array([0, 1, 3])
    expected = np.zeros((3, 2, 3))
    for i in range(3):
        slope = softmax(table[tokens[i]].reshape(-1) @ kernel) - np.eye(4)[y[i]]
        expected[i] = 0.1 * np.sign(kernel @ slope).reshape(2, 3)
    for layer in ("words", embedding):
        attack = FGSM(0.1, bounds=None, layer=layer, from_logits=True)
        assert attack.layer == "words"
        (found,) = attack(model, tokens, y)
        assert_same(found, expected)
    assert "call" not in vars(embedding)
    np.testing.assert_array_equal(array(embedding(tokens)), array(embedding.embeddings)[tokens])

    (found,) = PGD(0.4, 0.2, 5, "l2", bounds=None, layer="words", from_logits=True, restarts=2)(
        model, tokens, y
    )
    assert_same(np.sqrt(np.sum(array(found) ** 2, axis=(1, 2))), np.full(3, 0.4), rtol=1e-3)
    start = np.full((3, 2, 3), 0.05)
    attack = PGD(0.4, 0.2, 0, bounds=None, layer="words", from_logits=True)
    assert_same(attack(model, tokens, y, initial_perturbation=[start])[0], start)


def test_layers_that_cannot_be_perturbed():
    model, embedding = reader("functional")
    tokens, y = np.array([[0, 3]]), np.array([0])
    with pytest.raises(ValueError, match=r"unique among \[.*'words'.*Received: layer='word'"):
        FGSM(bounds=None, layer="word")(model, tokens, y)
    other = keras.layers.Dense(3, name="elsewhere")
    with pytest.raises(ValueError, match="Received: layer='elsewhere'"):
        FGSM(bounds=None, layer=other)(model, tokens, y)

    tokens_in = keras.Input((2,), dtype="int32")
    shared = keras.Model(
        tokens_in, keras.layers.Flatten()(embedding(tokens_in) + embedding(tokens_in + 1))
    )
    with pytest.raises(ValueError, match="`words`, which it calls 2 times"):
        FGSM(bounds=None, layer="words")(shared, tokens, y)
    assert "call" not in vars(embedding)

    class Skipping(Reader):
        skip = False

        def call(self, x):
            return self.head(self.flatten(ops.ones((1, 2, 3)) if self.skip else self.embedding(x)))

    model = Skipping()
    model(tokens)
    model.skip = True
    with pytest.raises(ValueError, match="which it calls 0 times"):
        FGSM(bounds=None, layer="words")(model, tokens, y)

    twice = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(2, name="same"),
            keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, name="same")]),
        ]
    )
    with pytest.raises(ValueError, match="unique among"):
        FGSM(bounds=None, layer="same")(twice, np.ones((1, 2), "float32"), y)


def test_perturbations_of_one_layer_nest():
    layer = keras.layers.Identity()
    x = ops.zeros((2,))
    with perturbed_output(layer, [ops.ones((2,))]):
        with perturbed_output(layer, [2 * ops.ones((2,))]):
            np.testing.assert_array_equal(array(layer(x)), [3.0, 3.0])
        np.testing.assert_array_equal(array(layer(x)), [1.0, 1.0])
    np.testing.assert_array_equal(array(layer(x)), [0.0, 0.0])


# The model and its surroundings


@pytest.mark.parametrize("training", [False, True])
def test_the_model_is_left_unchanged(training):
    model = keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(4),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dropout(0.5, seed=1),
            keras.layers.Dense(4),
        ]
    )
    model.compile("sgd", CROSSENTROPY)
    x, y = sample()
    model.train_on_batch(x, y)
    before = [array(v.value) for v in (*model.variables, *model.metrics_variables)]
    attack = PGD(0.2, 0.1, 2, random_start=False)
    first = array(attack(model, x, y, training=training))
    # All passes, also those of two calls, see the same masks.
    np.testing.assert_array_equal(array(attack(model, x, y, training=training)), first)
    after = [array(v.value) for v in (*model.variables, *model.metrics_variables)]
    for a, b in zip(before, after):
        np.testing.assert_array_equal(a, b)


def test_training_mode_reaches_the_model():
    seen = []

    def model(x, training=None):
        seen.append(training)
        return ops.concatenate([x, 0 * x], axis=-1)

    x = np.ones((1, 2), "float32")
    FGSM(0.1, from_logits=True)(model, x, np.array([0]))
    PGD(0.1, 0.1, 1, from_logits=True)(model, x, np.array([0]), training=True)
    assert seen == [False, True]


def test_attacks_are_constants_for_an_outer_derivative():
    network, (x, y) = Network(), sample()
    model, variables = network.keras, network.keras.trainable_variables
    x = ops.convert_to_tensor(x)
    for attack in (FGSM(0.2, None), PGD(9.0, 0.5, 2, "l2", random_start=False, bounds=None)):

        def total(w, x, attack=attack):
            with keras.StatelessScope(state_mapping=list(zip(variables, w))):
                return ops.sum(attack(model, x, y) ** 2)

        weights = [ops.convert_to_tensor(v) for v in variables]
        gradient = kr.autodiff.grad(lambda both, total=total: total(*both))((weights, x))
        for slope in (*gradient[0], gradient[1]):
            np.testing.assert_array_equal(array(slope), np.zeros(slope.shape))


def test_a_model_that_was_never_called_is_built():
    model = Reader()
    assert array(FGSM(bounds=None, from_logits=True)(_Plain(), *sample())).shape == (6, 5)
    (found,) = FGSM(bounds=None, layer="words", from_logits=True)(
        model, np.array([[0, 1]]), np.array([0])
    )
    assert found.shape == (1, 2, 3)


class _Plain(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(4)

    def call(self, x):
        return self.dense(x)


# Compiled


def test_inside_jit():
    network, (x, y) = Network(), sample()
    for attack in (
        PGD(0.3, 0.1, 3, "l2", random_start=False),
        PGD(0.3, 0.03, 22, random_start=False),
    ):

        def run(x, y, attack=attack):
            return attack(network.keras, x, y)

        expected = array(run(x, y))
        if BACKEND == "jax":
            import jax

            assert_same(jax.jit(run)(x, y), expected)
        elif BACKEND == "tensorflow":
            import tensorflow as tf

            assert_same(tf.function(run, jit_compile=True)(x, y), expected)
            spec = [tf.TensorSpec((None, 5)), tf.TensorSpec((None,), tf.int64)]
            dynamic = tf.function(run, input_signature=spec)
            assert_same(dynamic(x, y), expected)
            assert_same(dynamic(x[:2], y[:2]), expected[:2])
        else:
            import torch

            with torch.no_grad():
                result = run(x, y)
            assert not result.requires_grad
            assert not run(x, y).requires_grad
            assert_same(result, expected)


class Attacked(keras.Model):
    """Predicts at the worst point near its input, found inside `call`."""

    def __init__(self, network, attack):
        super().__init__()
        self.network, self.attack = network, attack
        self.attack_seed = attack.seed_generator

    def call(self, x, training=None):
        return self.network(self.attack(self.network, x))


@pytest.mark.parametrize("steps", [2, 22])
def test_an_attack_inside_a_model(steps):
    network, (x, y) = Network(), sample(rows=10)
    attack = PGD(0.2, 0.05, steps, loss="kl", bounds=None, seed=0)
    model = Attacked(network.keras, attack)
    model.compile(keras.optimizers.SGD(0.1), CROSSENTROPY)
    predicted = model.predict(x, batch_size=4, verbose=0)
    clean = network.keras.predict(x, verbose=0)
    assert predicted.shape == clean.shape
    assert (np.abs(predicted - clean) > 1e-3).any(axis=1).all()
    before = [array(v.value) for v in network.keras.variables]
    seed = array(attack.seed_generator.state.value)
    model.fit(x, y, batch_size=5, verbose=0)
    assert all((array(v.value) != b).any() for v, b in zip(network.keras.variables, before))
    assert (array(attack.seed_generator.state.value) != seed).any()  # new noise in each step


# Arguments and configs


def test_bad_arguments():
    for attack in (FGSM, PGD):
        for epsilon in (-0.1, "big", None, float("nan"), True):
            with pytest.raises(
                ValueError, match=r"`epsilon` must be a number at least 0. Received"
            ):
                attack(epsilon=epsilon)
        with pytest.raises(ValueError, match="`bounds` must be increasing.*bounds=\\(1, 0\\)"):
            attack(bounds=(1, 0))
        for bounds in (1.0, (0, 1, 2), "01x"):
            with pytest.raises(ValueError, match="`bounds` must be two numbers or None"):
                attack(bounds=bounds)
        with pytest.raises(ValueError, match="`bounds` must be a number. Received: bounds='a'"):
            attack(bounds=("a", 1))
        with pytest.raises(ValueError, match="pass `bounds=None`.*layer='words'"):
            attack(layer="words")
    with pytest.raises(ValueError, match="`step_size` must be a number at least 0.*step_size=-1"):
        PGD(step_size=-1)
    for steps in (-1, 1.5, True, None):
        with pytest.raises(ValueError, match="`steps` must be an integer of at least 0"):
            PGD(steps=steps)
    with pytest.raises(ValueError, match="`restarts` must be an integer of at least 1"):
        PGD(restarts=0)
    with pytest.raises(ValueError, match="`norm` must be one of 'linf', 'l2'. Received: norm='l1'"):
        PGD(norm="l1")
    with pytest.raises(ValueError, match="`loss` must be one of 'cross_entropy', .*loss='mse'"):
        PGD(loss="mse")
    with pytest.raises(ValueError, match="needs a loss of the labels, which 'kl' is not"):
        PGD(loss="kl", targeted=True)
    with pytest.raises(ValueError, match="`random_start` must be one of .*random_start='normal'"):
        PGD(random_start="normal")


def test_bad_calls():
    network, (x, y) = Network(), sample()
    with pytest.raises(ValueError, match=r"pass `layer=`.* Received inputs of dtype int"):
        FGSM()(network.keras, np.ones((2, 5), "int32"), y[:2])
    with pytest.raises(ValueError, match="'cross_entropy' needs labels `y`. Received: y=None"):
        FGSM()(network.keras, x)
    for loss in ("margin", "dlr", "compiled"):
        with pytest.raises(ValueError, match=f"'{loss}' needs labels"):
            PGD(loss=loss)(network.keras, x)
    with pytest.raises(ValueError, match=r"'dlr' needs at least 3 classes.*\(6, 2\)"):
        PGD(loss="dlr")(Network(classes=2).keras, x, y % 2)
    with pytest.raises(ValueError, match=r"needs `compile\(loss=…\)`"):
        PGD(loss="compiled")(network.keras, x, y)
    with pytest.raises(ValueError, match="Expected class labels"):
        FGSM()(network.keras, x, np.ones((6, 3)))


def test_what_is_attacked_must_be_a_model():
    with pytest.raises(
        ValueError, match="`model` must be a Keras model.* Received: model='resnet'"
    ):
        PGD()("resnet", *sample())


def test_numpy_numbers_are_taken():
    network, (x, y) = Network(), sample()
    for steps in (2, 22):
        attack = PGD(
            np.float64(0.2), np.float32(0.1), np.int64(steps), "l2", random_start=np.bool_(False)
        )
        found = attack(network.keras, x, y)
        assert keras.backend.standardize_dtype(found.dtype) == "float32"
        expected = PGD(0.2, 0.1, steps, "l2", random_start=False)(network.keras, x, y)
        assert_same(found, array(expected), rtol=1e-6)


@pytest.mark.parametrize(
    "attack",
    [
        FGSM(),
        FGSM(0.3, bounds=None, layer="words", from_logits=False, targeted=True),
        PGD(),
        PGD(0.2, 0.1, 3, "l2", "kl", "gaussian", 2, None, "words", True, 7),
        PGD(np.float32(0.5), np.float64(0.25), np.int32(3), bounds=(np.float32(0.5), 2)),
    ],
    ids=["fgsm", "fgsm-arguments", "pgd", "pgd-arguments", "pgd-numpy"],
)
def test_config_round_trip(attack):
    serialized = keras.saving.serialize_keras_object(attack)
    assert serialized["registered_name"] == f"keras_regularize.attacks>{type(attack).__name__}"
    restored = keras.saving.deserialize_keras_object(json.loads(json.dumps(serialized)))
    assert type(restored) is type(attack)
    assert restored.get_config() == attack.get_config()
    mine, theirs = (
        {k: v for k, v in vars(a).items() if k != "seed_generator"} for a in (attack, restored)
    )
    assert mine == theirs


def test_config_has_every_argument():
    assert FGSM(0.1, (0, 2)).get_config() == {
        "epsilon": 0.1,
        "bounds": [0.0, 2.0],
        "layer": None,
        "from_logits": None,
        "targeted": False,
        "inputs": None,
    }
    assert PGD(1, 0.5, 3, "l2", "kl", "gaussian", 2, None, "words", True, 7).get_config() == {
        "epsilon": 1.0,
        "step_size": 0.5,
        "steps": 3,
        "norm": "l2",
        "loss": "kl",
        "random_start": "gaussian",
        "restarts": 2,
        "bounds": None,
        "layer": "words",
        "from_logits": True,
        "seed": 7,
        "targeted": False,
        "inputs": None,
    }


# Cost


def test_passes():
    model, counter = counting_model()
    x, y = sample(inputs=4, classes=3)
    assert count(counter, lambda: FGSM()(model, x, y)) == Passes(1, 1, 0)
    for steps in (0, 1, 3, 22):
        passes = count(counter, lambda steps=steps: PGD(steps=steps)(model, x, y))
        assert passes == Passes(steps, steps, 0)
    assert count(counter, lambda: PGD(steps=2, loss="kl")(model, x)) == Passes(3, 2, 0)
    assert count(counter, lambda: PGD(steps=2, restarts=3)(model, x, y)) == Passes(9, 6, 0)


def test_passes_with_a_layer():
    model, counter = counting_model()
    x, y = sample(inputs=4, classes=3)
    name = model.layers[0].name
    assert count(counter, lambda: FGSM(bounds=None, layer=name)(model, x, y)) == Passes(2, 1, 0)
    attack = PGD(steps=3, bounds=None, layer=name)
    assert count(counter, lambda: attack(model, x, y)) == Passes(4, 3, 0)
