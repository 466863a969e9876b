"""AutoAttack and its members: each against a loop in float64 NumPy or the definition, then together."""

import keras
import numpy as np
import pytest
from scipy.optimize import linprog, minimize
from small_network import Network, assert_same, sample

import keras_regularize as kr
from keras_regularize.attacks._criteria import criterion
from keras_regularize.attacks.boundary import onto_plane
from keras_regularize.attacks.points import Point
from keras_regularize.attacks.square import pyramids, square_sizes
from tests.helpers import array

APGD, FAB, Square, AutoAttack = (
    getattr(kr.attacks, name) for name in ("APGD", "FAB", "Square", "AutoAttack")
)


def images(classes=5, size=6, rows=12, channels=2, scale=1.0):
    """A model of images without hidden layer, images of it, and their predicted labels."""
    rng = np.random.default_rng(0)
    flatten = keras.layers.Flatten(data_format="channels_last")
    model = keras.Sequential(
        [keras.Input((size, size, channels)), flatten, keras.layers.Dense(classes)]
    )
    model.set_weights(
        [scale * w for w in (rng.normal(size=(size * size * channels, classes)), np.zeros(classes))]
    )
    x = rng.uniform(size=(rows, size, size, channels)).astype("float32")
    return model, x, array(model(x)).argmax(axis=1)


# Targeted DLR


def targeted_dlr(z, y, target):
    order = np.sort(z)
    return (z[target] - z[y]) / (order[-1] - 0.5 * (order[-3] + order[-4]) + 1e-12)


def test_targeted_dlr_is_that_of_the_formula():
    network, (x, y) = Network(classes=6, scale=2.0), sample(rows=20, classes=6)
    point, attack = Point(network.keras, x), APGD(loss="targeted_dlr", from_logits=True)
    moved = np.clip(x + 0.1, 0.0, 1.0)
    for rank in (2, 4):
        found = criterion("targeted_dlr", point, y, attack, rank=rank)(point.outputs([moved]))
        targets = np.argsort(network.logits(x), axis=1)[:, -rank]
        expected = [
            targeted_dlr(z, label, target)
            for z, label, target in zip(network.logits(moved), y, targets)
        ]
        assert_same(found, expected)


@pytest.mark.rotating
def test_targets_find_more_than_the_label_alone():
    network, (x, _) = Network(scale=4.0, classes=6), sample(rows=200)
    y = array(network.keras(x)).argmax(axis=1)

    def fooled(attack):
        return array(network.keras(attack(network.keras, x, y))).argmax(axis=1) != y

    one = fooled(APGD(0.15, 10, loss="targeted_dlr", num_targets=1, seed=0))
    all_targets = fooled(APGD(0.15, 10, loss="targeted_dlr", seed=0))
    assert all_targets.sum() > one.sum()
    assert APGD(loss="targeted_dlr", restarts=2).num_runs(lambda: 5) == 8
    assert APGD(loss="targeted_dlr").num_runs(lambda: 100) == 9


# FAB


# JAX has float64 as a flag of the whole process.
PRECISE = "float32" if keras.backend.backend() == "jax" else "float64"
CLOSE, SLACK = (1e-5, 1e-6) if PRECISE == "float32" else (1e-6, 1e-9)


def moves_onto_plane(normal, gap, low, high, norm):
    rows = [
        keras.ops.convert_to_tensor(np.asarray(t, PRECISE)[None])
        for t in (normal, [gap], low, high)
    ]
    return array(onto_plane(*rows, norm))[0]


@pytest.mark.parametrize("bounded", [True, False])
def test_moves_onto_a_plane_are_the_shortest(bounded):
    rng = np.random.default_rng(0)
    for trial in range(12):
        n = 5
        w, x = rng.normal(size=n), rng.uniform(size=n)
        w[rng.random(n) < 0.2] = 0.0
        gap = rng.normal() * (1.0 if trial % 3 else 0.2)
        low, high = (-x, 1.0 - x) if bounded else (np.full(n, -1e12), np.full(n, 1e12))
        box = list(zip(low, high))
        reach = sum(max(-v * a, -v * b) for v, (a, b) in zip(np.sign(gap) * w, box))
        linf, l2 = (moves_onto_plane(w, gap, low, high, norm) for norm in ("linf", "l2"))
        if reach < abs(gap):  # No point of the plane is in the box.
            for moves in (linf, l2):
                np.testing.assert_allclose(-np.sign(gap) * (w @ moves), reach, rtol=CLOSE)
            continue
        for moves in (linf, l2):
            np.testing.assert_allclose(w @ moves, -gap, rtol=CLOSE, atol=10 * SLACK)
            assert (moves >= low - SLACK).all() and (moves <= high + SLACK).all()
        rows = np.vstack([np.c_[np.eye(n), -np.ones(n)], np.c_[-np.eye(n), -np.ones(n)]])
        limits = [*box, (0, None)] if bounded else [(None, None)] * n + [(0, None)]
        best = linprog(
            np.eye(n + 1)[n], rows, np.zeros(2 * n), np.r_[w, 0][None], [-gap], bounds=limits
        )
        np.testing.assert_allclose(np.abs(linf).max(), best.fun, rtol=10 * CLOSE, atol=SLACK)
        constraint = {"type": "eq", "fun": lambda d, w=w, gap=gap: w @ d + gap}
        best = minimize(lambda d: d @ d, l2 * 0.5, bounds=box, constraints=[constraint], tol=1e-12)
        np.testing.assert_allclose(l2 @ l2, best.fun, rtol=1e-4, atol=1e-8)


def fab(network, row, label, steps, norm, rank):
    """The closest point found for a row, in float64."""
    order = np.inf if norm == "linf" else 2
    target = np.argsort(network.logits(row))[-rank]
    x, best, distance = row, row, np.inf
    for _ in range(steps):
        z = network.logits(x)
        gap = z[target] - z[label]
        first, second, _ = network.weights
        slope = second[:, target] - second[:, label]
        w = first @ ((1 - np.tanh(x @ first) ** 2) * slope)
        ahead, back = (
            moves_onto_plane(w, g, 0.0 - v, 1.0 - v, norm)
            for v, g in ((x, gap), (row, gap + w @ (row - x)))
        )
        sizes = [max(np.linalg.norm(d, order), 1e-8) for d in (ahead, back)]
        a = min(sizes[0] / sum(sizes), 0.1)
        x = np.clip((1 - a) * (x + 1.05 * ahead) + a * (row + 1.05 * back), 0.0, 1.0)
        if network.logits(x).argmax() != label:
            length = np.linalg.norm(x - row, order)
            if length < distance:
                best, distance = x, length
            x = row + 0.9 * (x - row)
    return best, distance


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fab_is_that_of_a_loop(norm):
    network, (x, _) = Network(classes=5), sample(rows=20)
    y = array(network.keras(x)).argmax(axis=1)
    epsilon = 0.12 if norm == "linf" else 0.25
    found = array(FAB(epsilon, 6, norm, num_targets=1)(network.keras, x, y))
    loops = [fab(network, np.float64(row), label, 6, norm, 2) for row, label in zip(x, y)]
    expected = [move if size <= epsilon else row for row, (move, size) in zip(x, loops)]
    assert_same(found, expected, rtol=1e-3, atol=1e-4)
    fooled = array(network.keras(found)).argmax(axis=1) != y
    assert 0.1 < fooled.mean() < 0.9
    np.testing.assert_array_equal(found[~fooled], x[~fooled])


def test_fab_finds_the_boundary_of_a_linear_model():
    model, x, y = images(scale=0.2)
    kernel = array(model.weights[0]).astype("float64")
    z = array(model(x)).astype("float64")
    for norm, dual in (("linf", 1), ("l2", 2)):
        distances = np.full(len(x), np.inf)
        for k in range(5):
            normal = kernel[:, [k]] - kernel[:, y]
            gap = z[np.arange(len(x)), y] - z[:, k]
            size = np.linalg.norm(normal, dual, axis=0)
            distances = np.where(
                k == y, distances, np.minimum(distances, gap / np.maximum(size, 1e-9))
            )
        found = array(FAB(10.0, 30, norm, bounds=None)(model, x, y))
        moved = np.linalg.norm(
            (found - x).reshape(len(x), -1), np.inf if norm == "linf" else 2, axis=1
        )
        np.testing.assert_allclose(moved, distances, rtol=0.06)  # The overshoot is 5 %.
        assert (moved > 0.999 * distances).all()


def test_fab_begins_again_half_the_radius_away():
    network, (x, _) = Network(classes=5), sample(rows=8)
    y = array(network.keras(x)).argmax(axis=1)
    for norm, order in (("linf", np.inf), ("l2", 2)):
        attack = FAB(0.2, 3, norm, num_targets=2, bounds=None, restarts=3, seed=0)
        assert attack.num_runs(lambda: 5) == 6
        like = keras.ops.zeros((8, x.shape[1]))
        first, second, third = (array(attack._begin(number, like)) for number in range(3))
        assert np.abs(first).max() == 0.0 < np.abs(second - third).max()
        np.testing.assert_allclose(np.linalg.norm(second, order, axis=1), 0.5, rtol=1e-5)
    one, several = (
        array(network.keras(FAB(0.12, 2, restarts=n, seed=0)(network.keras, x, y))).argmax(1) != y
        for n in (1, 3)
    )
    assert (several | ~one).all()


# Square


def test_squares_shrink_as_in_the_paper():
    sizes = square_sizes(9000, 32, 32, 1)
    at = {
        0: 0.8,
        10: 0.8,
        11: 0.4,
        50: 0.4,
        51: 0.2,
        201: 0.1,
        501: 0.05,
        1001: 0.025,
        8999: 0.8 / 512,
    }
    for query, share in at.items():
        assert sizes[query] == max(round(np.sqrt(share * 1024)), 1)
    odd = square_sizes(5000, 32, 20, 3)
    assert odd.min() == 3 and odd.max() == 20 and (odd[odd < 20] % 2 == 1).all()


def test_pyramids_are_those_of_the_definition():
    def pyramid(height, width):
        table = np.zeros((height, width))
        row, column = height // 2, width // 2
        for k in range(max(row, column) + 1):
            rows = slice(max(row - k, 0), row + k + 1)
            table[rows, max(column - k, 0) : column + k + 1] += 1 / (k + 1) ** 2
        return table / max(np.linalg.norm(table), 1e-12)

    for size in (1, 2, 3, 5, 8, 13):
        half = size // 2
        table = np.concatenate([pyramid(half, size), -pyramid(size - half, size)])
        np.testing.assert_allclose(pyramids(size), table / np.linalg.norm(table))


@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_square_stays_in_the_ball_and_lowers_margins(norm, channels_first):
    before = keras.config.image_data_format()
    try:
        model, x, y = images(scale=0.3)
        if channels_first:
            keras.config.set_image_data_format("channels_first")
            inner, x = model, x.transpose(0, 3, 1, 2)
            model = keras.Sequential(
                [keras.Input(x.shape[1:]), keras.layers.Permute((2, 3, 1)), inner]
            )
        epsilon = 0.03 if norm == "linf" else 0.15
        adversarial = {n: array(Square(epsilon, n, norm, seed=0)(model, x, y)) for n in (1, 300)}
        moves = (adversarial[300] - x).reshape(len(x), -1)
        assert (
            np.linalg.norm(moves, np.inf if norm == "linf" else 2, axis=1).max() <= epsilon + 1e-5
        )
        assert 0.0 <= adversarial[300].min() and adversarial[300].max() <= 1.0
        fooled = {n: array(model(a)).argmax(axis=1) != y for n, a in adversarial.items()}
        assert (fooled[300] | ~fooled[1]).all() and fooled[300].sum() > fooled[1].sum()
        np.testing.assert_array_equal(adversarial[300][~fooled[300]], x[~fooled[300]])
    finally:
        keras.config.set_image_data_format(before)


@pytest.mark.rotating
def test_square_needs_no_gradient_and_finds_what_gradients_miss():
    model, x, y = images(rows=40, scale=0.3)

    class Masked(keras.layers.Layer):
        """Rounds its inputs: no gradient comes through."""

        def call(self, inputs):
            return keras.ops.round(64.0 * inputs) / 64.0

    masked = keras.Sequential([keras.Input(x.shape[1:]), Masked(), model])
    y = array(masked(x)).argmax(axis=1)
    result = kr.analysis.auto_attack_accuracy(
        masked, x, y, AutoAttack(0.1, steps=3, queries=200, from_logits=True, seed=0), verbose=0
    )
    assert result.after["fab-t"] > result.after["square"] + 0.3
    assert result.gradients_are_masked
    assert "they may be masked" in str(result)


# Together


@pytest.mark.rotating
def test_an_ensemble_is_as_strong_as_its_strongest_member():
    model, x, y = images(rows=30, scale=0.3)
    attack = AutoAttack(0.02, steps=10, queries=50, seed=0)
    together = array(attack(model, x, y))
    robust = array(model(together)).argmax(axis=1) == y
    assert 0.1 < robust.mean() < 0.9
    assert np.abs(together - x).max() <= 0.02 + 1e-6
    for member in attack.members.values():
        alone = array(model(member(model, x, y))).argmax(axis=1) == y
        assert alone.mean() >= robust.mean() - 0.04
    accuracy = kr.analysis.robust_accuracy(model, x, y, attack)
    assert accuracy == pytest.approx(robust.mean(), abs=0.04)


@pytest.mark.rotating
def test_the_measure_drops_samples_as_they_are_fooled():
    model, x, y = images(rows=30, scale=0.3)
    y[:3] = (y[:3] + 1) % 5
    attack = AutoAttack(0.02, steps=10, queries=50, seed=0)
    result = kr.analysis.auto_attack_accuracy(model, x, y, attack, batch_size=8, verbose=0)
    assert result.accuracy == pytest.approx(0.9)
    values = [result.accuracy, *result.after.values()]
    assert all(a >= b for a, b in zip(values, values[1:]))
    assert list(result.after) == list(result.seconds) == ["apgd-ce", "apgd-t", "fab-t", "square"]
    assert result.robust_accuracy == values[-1] == np.mean(result.robust)
    right = array(model(result.x_adversarial)).argmax(axis=1) == y
    np.testing.assert_array_equal(right, result.robust)
    np.testing.assert_array_equal(result.x_adversarial[:3], x[:3])
    np.testing.assert_array_equal(result.x_adversarial[result.robust], x[result.robust])
    assert result.to_dict()["after"] == result.after
    assert all(len(line) <= 80 for line in str(result).splitlines())
    batches = [(x[:20], y[:20]), (x[20:], y[20:])]
    again = kr.analysis.auto_attack_accuracy(
        model, iter(batches), attack=AutoAttack(0.02, attacks=["fab-t"], steps=10), verbose=0
    )
    assert list(again.after) == ["fab-t"]
    assert again.robust_accuracy == pytest.approx(result.after["fab-t"], abs=0.07)


@pytest.mark.rotating
def test_labels_as_rows_and_per_channel_radii():
    model, x, y = images(rows=20, scale=0.3)
    attack = AutoAttack([0.02, 0.0], attacks=["apgd-t", "square"], steps=3, queries=20, seed=0)
    result = kr.analysis.auto_attack_accuracy(model, x, np.eye(5)[y], attack, verbose=0)
    moves = np.abs(result.x_adversarial - x).max(axis=(0, 1, 2))
    assert moves[0] <= 0.02 + 1e-6 and moves[1] == 0.0
    assert 0 < result.robust_accuracy < 1
    for norm in ("linf", "l2"):
        moves = array(FAB([0.1, 0.0], 5, norm)(model, x, y)) - x
        assert np.abs(moves[..., 1]).max() == 0.0 < np.abs(moves[..., 0]).max()


def test_configs():
    attack = AutoAttack([0.1, 0.2], "l2", ["fab-t"], 3, 5, ([0.0, 0.0], 1.0), True, 7)
    config = attack.get_config()
    assert config == {
        "epsilon": [0.1, 0.2],
        "norm": "l2",
        "attacks": ["fab-t"],
        "steps": 3,
        "queries": 5,
        "bounds": [[0.0, 0.0], 1.0],
        "from_logits": True,
        "seed": 7,
    }
    assert AutoAttack.from_config(config).get_config() == config


def test_bad_arguments():
    model, x, y = images(classes=3)
    with pytest.raises(ValueError, match="'targeted_dlr' needs at least 4 classes"):
        AutoAttack(0.1, steps=1, queries=1)(model, x, y)
    flat, (rows, labels) = Network(), sample()
    with pytest.raises(ValueError, match="`Square` perturbs images"):
        Square(0.1, 1)(flat.keras, rows, labels)
    for attacks in ("square", [], ["square", "square"]):
        with pytest.raises(ValueError, match="`attacks` must be a list of different names"):
            AutoAttack(attacks=attacks)
    with pytest.raises(ValueError, match="`attacks` must be one of 'apgd-ce'"):
        AutoAttack(attacks=["pgd"])
    with pytest.raises(ValueError, match="`queries` must be an integer of at least 1"):
        AutoAttack(attacks=["fab-t"], queries=0)
    with pytest.raises(ValueError, match="`norm` must be one of"):
        FAB(norm="l1")
    with pytest.raises(ValueError, match="chooses targets itself"):
        APGD(loss="targeted_dlr", targeted=True)
    measure = kr.analysis.auto_attack_accuracy
    with pytest.raises(ValueError, match="`attack` must be a `kr.attacks.AutoAttack`"):
        measure(model, x, y, kr.attacks.FGSM())
    with pytest.raises(ValueError, match="at least one sample"):
        measure(model, x[:0], y[:0])
    with pytest.raises(ValueError, match="farther than `epsilon`"):
        measure(model, x + 5.0, y)
    with pytest.raises(ValueError, match="Labels are missing"):
        measure(model, x)
