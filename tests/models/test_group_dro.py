import keras
import numpy as np
import pytest
from counting import count, counting_model
from keras import layers

import keras_regularize as kr
from tests.models.small import LOSS, network

RNG = np.random.RandomState(0)
X, Y = RNG.rand(32, 4).astype("float32"), RNG.randint(0, 3, 32)
GROUP = RNG.randint(0, 3, 32)
COLUMNS = {"label": Y, "group": GROUP}
HALF = {"batch_size": 16, "shuffle": False, "verbose": 0}


def dro(model, num_groups=3, step_size=0.5, **arguments):
    return kr.models.GroupDRO(model, num_groups, step_size, **arguments)


def compiled(model, rate=0.0, loss=LOSS, **arguments):
    model.compile(keras.optimizers.SGD(rate), loss, **arguments)
    return model


def losses_of(net, x=X, y=Y):
    z = np.asarray(net.predict(x, verbose=0), "float64")
    return np.log(np.exp(z).sum(-1)) - z[np.arange(len(y)), y]


def step_of(q, losses, groups, step_size=0.5, weights=None):
    """One update of the weights and its objective, from the formula."""
    weights = np.ones(len(losses)) if weights is None else weights
    means = np.zeros(len(q))
    for g in range(len(q)):
        if weights[groups == g].sum() > 0:
            means[g] = np.average(losses[groups == g], weights=weights[groups == g])
    q = q * np.exp(step_size * means)
    q = q / q.sum()
    return q, q @ means


@pytest.mark.parametrize("weighted", [False, True])
def test_weights_and_loss_of_two_batches_follow_the_formula(weighted):
    net = network()
    model = compiled(dro(net))
    weights = RNG.rand(32).astype("float32") if weighted else None
    logged = model.fit(X, COLUMNS, sample_weight=weights, epochs=1, **HALF).history["loss"][0]
    losses, q, objectives = losses_of(net), np.full(3, 1 / 3), []
    for rows in (slice(0, 16), slice(16, 32)):
        given = None if weights is None else weights[rows]
        q, objective = step_of(q, losses[rows], GROUP[rows], weights=given)
        objectives.append(objective)
    np.testing.assert_allclose(model.group_weights.numpy(), q, rtol=1e-4)
    penalty = 0.01 * np.sum(net.get_weights()[0] ** 2)
    assert logged == pytest.approx(np.mean(objectives) + penalty, rel=1e-5)


@pytest.mark.parametrize(
    "steps", [5, 16]
)  # As many as samples in a batch: no shape would give it away.
def test_a_group_is_that_of_all_positions_of_a_sequence(steps):
    net = keras.Sequential([keras.Input((steps, 4)), layers.Dense(3)])
    x, y = RNG.rand(16, steps, 4).astype("float32"), RNG.randint(0, 3, (16, steps))
    columns = {"label": y, "group": GROUP[:16]}
    logged = compiled(dro(net)).fit(x, columns, **HALF).history["loss"][0]
    z = np.asarray(net.predict(x, verbose=0), "float64")
    picked = np.take_along_axis(z, y[..., None], axis=-1)[..., 0]
    losses = np.mean(np.log(np.exp(z).sum(-1)) - picked, axis=1)
    assert logged == pytest.approx(step_of(np.full(3, 1 / 3), losses, GROUP[:16])[1], rel=1e-5)


def fitted(model, y=COLUMNS, **arguments):
    compiled(model, 0.5).fit(X, y, **{**HALF, **arguments})
    while isinstance(model, kr.models.RegularizedModel):
        model = model.model
    return model.get_weights()


def assert_close(a, b):
    for left, right in zip(a, b, strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6)


def test_one_group_is_plain_training():
    one = {"label": Y, "group": np.zeros(32, "int32")}
    assert_close(fitted(dro(network(), 1), one), fitted(network(), Y))


def test_step_size_zero_is_the_mean_over_groups():
    per_group = np.array([np.sum(GROUP == g) for g in range(3)])
    weights = 32 / 3 / per_group[GROUP]
    whole = {"batch_size": 32}
    expected = fitted(network(), Y, sample_weight=weights.astype("float32"), **whole)
    assert_close(fitted(dro(network(), step_size=0.0), **whole), expected)
    # Absent groups contribute 0; the shape of the column does not matter.
    model = dro(network(), 5, step_size=0.0)
    compiled(model).fit(X, {"label": Y, "group": GROUP[:, None].astype("float32")}, **HALF)
    np.testing.assert_allclose(model.group_weights.numpy(), np.full(5, 0.2), rtol=1e-6)


def test_weights_stay_a_distribution_and_follow_the_losses():
    net = network()
    model = compiled(dro(net, step_size=50.0))
    model.fit(X, COLUMNS, epochs=4, **{**HALF, "batch_size": 32})
    q, losses = model.group_weights.numpy(), losses_of(net)
    worst = np.argmax([losses[GROUP == g].mean() for g in range(3)])
    assert q.sum() == pytest.approx(1) and np.isfinite(q).all() and q.argmax() == worst


def test_a_group_without_weight_stays_so_however_large_its_loss():
    model = compiled(dro(network(), step_size=1000.0))
    model.group_weights.assign([0.0, 0.5, 0.5])
    targets = np.where(GROUP == 0, np.argmin(model.predict(X, verbose=0), axis=1), Y)
    columns = {"label": targets, "group": GROUP}
    model.fit(X, columns, epochs=2, **{**HALF, "batch_size": 32})
    q, losses = model.group_weights.numpy(), losses_of(model.model, y=targets)
    means = [losses[GROUP == g].mean() for g in range(3)]
    assert np.argmax(means) == 0 and 1000 * (means[0] - max(means[1:])) > 150
    assert q[0] == 0 and q.sum() == pytest.approx(1)


def test_adjustment_favours_small_groups_and_normalize_bounds_the_step():
    counts = [1000, 10, 10]
    small = compiled(dro(network(), adjustment=5.0, group_counts=counts))
    plain = compiled(dro(network()))
    bounded = compiled(dro(network(), step_size=1.0, normalize=True))
    for model in (small, plain, bounded):
        model.fit(X, COLUMNS, **{**HALF, "batch_size": 32})
    ratio = small.group_weights.numpy() / plain.group_weights.numpy()
    bonus = np.exp(0.5 * 5.0 / np.sqrt(counts))
    np.testing.assert_allclose(ratio / ratio[0], bonus / bonus[0], rtol=1e-4)
    assert np.ptp(np.log(bounded.group_weights.numpy())) < 1.0


def fgsm(model):
    return kr.models.AdversarialTraining(model, kr.attacks.FGSM(0.1))


def test_group_weights_move_once_under_a_gradient_rule():
    inner = dro(network())
    compiled(kr.models.SAM(inner, rho=0.5)).train_on_batch(X, COLUMNS)
    alone = compiled(dro(network()))
    alone.train_on_batch(X, COLUMNS)
    np.testing.assert_allclose(inner.group_weights.numpy(), alone.group_weights.numpy(), rtol=1e-6)


@pytest.mark.parametrize("inner", [fgsm, lambda m: kr.models.SAM(m, rho=0.1)], ids=["fgsm", "sam"])
def test_levels_commute(inner):
    assert_close(fitted(dro(inner(network()))), fitted(inner(dro(network()))))


def test_adversarial_losses_weigh_the_groups():
    net = network()
    model = compiled(dro(fgsm(net)))
    model.train_on_batch(X, COLUMNS)
    attacked = np.asarray(kr.attacks.FGSM(0.1)(net, X, Y))
    expected, _ = step_of(np.full(3, 1 / 3), losses_of(net, attacked), GROUP)
    np.testing.assert_allclose(model.group_weights.numpy(), expected, rtol=1e-3)


def test_unlabelled_rows_belong_to_no_group():
    labelled = np.arange(32) % 4 != 0
    y = {"label": np.where(labelled, Y, -1), "group": GROUP}
    plain = {"label": Y[labelled], "group": GROUP[labelled]}
    a, b = (dro(kr.models.VAT(network(), factor=0.0, seed=1)) for _ in range(2))
    whole = {"epochs": 2, "batch_size": 32, "shuffle": False, "verbose": 0}
    first = compiled(a, 0.5).fit(X, y, **whole).history["loss"]
    second = compiled(b, 0.5).fit(X[labelled], plain, **whole).history["loss"]
    np.testing.assert_allclose(first, second, rtol=1e-5)
    np.testing.assert_allclose(a.group_weights.numpy(), b.group_weights.numpy(), rtol=1e-5)


@pytest.mark.parametrize(
    "wrap, expected",
    [(dro, (1, 1, 1)), (lambda m: kr.models.SAM(dro(m)), (2, 2, 2))],
    ids=["group dro", "sam"],
)
def test_passes_are_counted(wrap, expected):
    net, counter = counting_model()
    model = compiled(wrap(net))
    model.fit(X[:16], {"label": Y[:16], "group": GROUP[:16]}, **HALF)  # Tracing done.
    y = {"label": Y[:16], "group": GROUP[:16]}
    assert tuple(count(counter, lambda: model.fit(X[:16], y, **HALF))) == expected


def test_training_goes_on_after_loading(tmp_path):
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.5, 0.1])
    arguments = {"adjustment": 1.0, "group_counts": [12, 10, 10]}
    model = compiled(kr.models.SAM(dro(network(), step_size=schedule, **arguments)), 0.5)
    model.fit(X, COLUMNS, **HALF)
    model.save(tmp_path / "m.keras")
    restored = keras.models.load_model(tmp_path / "m.keras")
    for m in (model, restored):
        m.fit(X, COLUMNS, **HALF)
    assert_close(restored.get_weights(), model.get_weights())
    assert np.ptp(model.model.group_weights.numpy()) > 0.01


@pytest.mark.parametrize(
    "y, message",
    [
        (Y, "Group DRO needs the group of each sample"),
        ({"label": Y, "index": GROUP}, r"Received the columns \['index'\]"),
        ({"label": Y, "group": GROUP + 1}, "ids from 0 to 2. Received ids from 1 to 3"),
        ({"label": Y, "group": GROUP - 1}, "Received ids from -1 to 1"),
    ],
)
def test_bad_groups_leave_the_weights(y, message):
    net = network()
    before = net.get_weights()
    model = compiled(kr.models.SAM(dro(net)), 0.5)
    with pytest.raises(ValueError, match=message):
        model.fit(X, y, verbose=0)
    assert_close(net.get_weights(), before)
    assert np.isfinite(model.evaluate(X, Y, verbose=0))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_groups": 0}, "`num_groups` must be an integer of at least 1"),
        ({"step_size": -1.0}, "`step_size` must be .*at least 0"),
        ({"adjustment": 1.0}, "`adjustment` needs `group_counts`"),
        ({"group_counts": [1, 2]}, "`group_counts` must be 3 positive numbers"),
        ({"group_counts": [1, 2, 0]}, "`group_counts` must be 3 positive numbers"),
        (
            {"group_counts": 3},
            "`group_counts` must be 3 positive numbers.* Received: group_counts=3",
        ),
        ({"group_counts": "abc"}, "`group_counts` must be 3 .* Received: group_counts='abc'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        dro(network(), **arguments)


def spurious_data(size, agreement, seed):
    """A core feature, and one that is easier to see and agrees with the label as often as `agreement` says."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, size)
    spurious = np.where(rng.random(size) < agreement, y, 1 - y)
    core = 0.8 * (2 * y - 1) + rng.normal(size=size)
    x = np.stack([core, 2.0 * (2 * spurious - 1) + 0.6 * rng.normal(size=size)], axis=1)
    return x.astype("float32"), {"label": y, "group": 2 * y + spurious}


def test_lifts_the_worst_group():
    x, y = spurious_data(2000, 0.95, seed=0)
    accuracy = []
    for wrap in (kr.models.RegularizedModel, lambda net: dro(net, 4, step_size=0.1)):
        keras.utils.set_random_seed(0)
        net = keras.Sequential([keras.Input((2,)), layers.Dense(16, "relu"), layers.Dense(2)])
        model = wrap(net)
        optimizer = keras.optimizers.AdamW(0.05, weight_decay=1e-2)
        model.compile(optimizer, LOSS, metrics=[kr.metrics.WorstGroupAccuracy(4)])
        model.fit(x, y, batch_size=500, epochs=10, verbose=0)
        test = spurious_data(2000, 0.5, seed=1)
        accuracy.append(model.evaluate(*test, batch_size=2000, verbose=0)[1])
    assert accuracy[1] > accuracy[0] + 0.3, accuracy
