"""JODIE: a stream against a loop, time goes on, padding, saving, and what the sums of T-batches change."""

import keras
import numpy as np
import pytest

import keras_regularize as kr
from tests.helpers import array, number, tensor


def stream(n=40, users=4, items=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, users, n), rng.integers(0, items, n), np.cumsum(rng.exponential(size=n))


def unit(x):
    return x / np.linalg.norm(x)


@pytest.mark.parametrize("mode", ["item_sum", "full_sum", "mean"])
def test_a_window_equals_a_loop_over_interactions(mode):
    users, items, times = stream(12)
    features = np.random.default_rng(1).normal(size=(12, 2))
    model = kr.models.JODIE(4, 3, 5, mode, 0.7, 0.4)
    x = model.stream(users, items, times, features)
    scores = array(model({k: tensor(v, v.dtype.name) for k, v in x.items()}))
    get = {v.name: array(v).astype("float64") for v in model.variables}
    now = {"u": [unit(v) for v in get["first_users"]], "i": [unit(v) for v in get["first_items"]]}
    last_item, last_time = {}, {}
    batches = kr.utils.t_batches(users, items)
    loss = 0.0
    for b in range(batches.max() + 1):
        members = np.flatnonzero(batches == b)
        parts, changes, new = [], [], []
        for place, k in enumerate(members):
            u, i = users[k], items[k]
            gu, gi = (times[k] - last_time.get((s, n), times[k]) for s, n in (("u", u), ("i", i)))
            previous = last_item.get(u, 3)
            a, c, p = now["u"][u], now["i"][i], now["i"][previous]
            z = np.concatenate([a * (1 + get["drift"] * gu), p]) @ get["prediction"]
            z = z + get["user_bias"][u] + get["item_bias"][previous]
            parts.append(np.square(z - np.concatenate([c, np.eye(3)[i]])))
            expected = [2 * z[5 + m] - np.square(z[:5] - now["i"][m]).sum() for m in range(3)]
            np.testing.assert_allclose(scores[b, place], expected, rtol=1e-3, atol=1e-4)
            moved_u = unit(np.tanh(np.concatenate([a, c, [gu], features[k]]) @ get["user_cell"]))
            moved_i = unit(np.tanh(np.concatenate([c, a, [gi], features[k]]) @ get["item_cell"]))
            changes.append((0.7 * np.mean((moved_u - a) ** 2), 0.4 * np.mean((moved_i - c) ** 2)))
            new.append((u, i, moved_u, moved_i))
            last_item[u], last_time["u", u], last_time["i", i] = i, times[k], times[k]
        for u, i, moved_u, moved_i in new:
            now["u"][u], now["i"][i] = moved_u, moved_i
        parts = np.array(parts)
        loss += {"item_sum": parts.mean(1).sum(), "full_sum": parts.sum(), "mean": parts.mean()}[
            mode
        ]
        loss += np.mean(changes, axis=0).sum()
    np.testing.assert_allclose(number(sum(model.losses)), loss, rtol=1e-4)
    np.testing.assert_allclose(array(model.users)[:4], now["u"][:4], rtol=1e-3, atol=1e-5)


def test_time_goes_on_until_an_epoch_begins(tmp_path):
    users, items, times = stream()
    model = kr.models.JODIE(4, 3, 5)
    model.compile(keras.optimizers.Adam(0.01))
    x = model.stream(users, items, times)
    history = model.fit(x, batch_size=4, epochs=8, verbose=0).history["loss"]
    assert history[-1] < history[0]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    first = model.predict(x, batch_size=4, verbose=0)
    np.testing.assert_allclose(
        loaded.predict(x, batch_size=4, verbose=0), first, rtol=1e-4, atol=1e-5
    )
    second = model.predict(x, batch_size=4, verbose=0)
    assert np.abs(first - second)[0].max() > 1e-5
    model.reset()
    again = model.predict(x, batch_size=4, verbose=0)
    model.reset()
    np.testing.assert_allclose(
        model.predict(x, batch_size=7, verbose=0), again, rtol=1e-4, atol=1e-5
    )


def test_wrong_streams():
    model = kr.models.JODIE(4, 3)
    with pytest.raises(ValueError, match="items below 3 and times that do not fall"):
        model.stream([0, 1], [0, 3], [0.0, 1.0])
    with pytest.raises(ValueError, match="times that do not fall"):
        model.stream([0, 1], [0, 1], [1.0, 0.0])


@pytest.mark.rotating
def test_with_sums_the_user_who_is_always_there_does_not_outweigh_the_others():
    # One user makes most batches, alone with one item; the others have a taste of their own.
    rng = np.random.default_rng(0)
    users, items = [], []
    for _ in range(8):
        for user in rng.permutation(np.arange(1, 9)):
            users.append(user)
            items.append(1 + user % 4 if rng.uniform() < 0.9 else rng.integers(1, 5))
        users += [0] * 4
        items += [0] * 4
    times = np.arange(len(users), dtype="float32") / 8
    others = np.asarray(users) > 0
    ranks = {}
    for mode in ("mean", "item_sum"):
        keras.utils.set_random_seed(0)
        model = kr.models.JODIE(9, 5, 8, mode, window=16)
        model.compile(keras.optimizers.Adam(0.02))
        x = model.stream(users, items, times)
        model.fit(x, epochs=6, verbose=0)
        model.reset()
        scores = model.predict(x, verbose=0)
        kept = (x["user"] > 0) & (x["user"] < 9)
        relevance = np.eye(5)[x["item"][kept]]
        metric = kr.metrics.MeanReciprocalRank()
        metric.update_state(relevance, scores[kept])
        ranks[mode] = number(metric.result())
    assert others.sum() == kept.sum() and ranks["item_sum"] > ranks["mean"], ranks
