import keras
import numpy as np
import pytest
from counting import count, counting_model
from keras import layers

import keras_regularize as kr

RNG = np.random.RandomState(0)
N = 12
X = RNG.normal(size=(N, 3)).astype("float32")
Y = (X @ [[1.0], [-2.0], [0.5]] + RNG.normal(size=(N, 1))).astype("float32")
INDEXED = kr.utils.with_index(Y)
ONE = {"batch_size": 1, "shuffle": False, "verbose": 0}


def network():
    keras.utils.set_random_seed(1)
    hidden = layers.Dense(4, "tanh", kernel_regularizer=keras.regularizers.L2(0.01))
    return keras.Sequential([keras.Input((3,)), hidden, layers.Dense(1)])


def prospect(model, spectrum="extremile", parameter=2.0, **arguments):
    return kr.models.Prospect(model, N, spectrum, parameter, **arguments)


def compiled(model, rate=0.05, loss="mse"):
    model.compile(keras.optimizers.SGD(rate), loss)
    return model


def linear(l2=0.0):
    dense = layers.Dense(
        1,
        use_bias=False,
        kernel_initializer="zeros",
        kernel_regularizer=keras.regularizers.L2(l2) if l2 else None,
    )
    return keras.Sequential([keras.Input((3,)), dense])


def oracle(batches, rate, l2, shift_cost, table=True, filled=True):
    """Kernel after steps on given indices: squared error, extremile, every sum a loop in float64."""
    x, y, w = X.astype("float64"), Y[:, 0].astype("float64"), np.zeros(3)
    at = lambda w: (x @ w - y) ** 2  # noqa: E731
    slope = lambda w: 2 * (x @ w - y)[:, None] * x  # noqa: E731

    def weights(losses):
        q = kr.losses.spectral_weights(losses.astype("float32"), "extremile", 2.0, shift_cost)
        return keras.ops.convert_to_numpy(q).astype("float64")

    losses, rho, old = np.zeros(N), np.zeros(N), np.zeros((N, 3))
    if filled:
        losses, old = at(w), slope(w)
        rho = weights(losses)
    for rows in batches:
        q, new, new_losses = weights(losses), slope(w), at(w)
        v = np.mean([N * q[i] * new[i] for i in rows], axis=0) + 2 * l2 * w
        if table:
            v = v + rho @ old - np.mean([N * rho[i] * old[i] for i in rows], axis=0)
        w = w - rate * v
        for i in rows:
            losses[i], rho[i], old[i] = new_losses[i], q[i], new[i]
    return w


@pytest.mark.parametrize(
    "table, filled, size", [(True, True, 4), (True, False, 1), (False, True, 4)]
)
def test_steps_follow_the_formula(table, filled, size):
    net = linear(0.1)
    model = compiled(prospect(net, shift_cost=0.5, gradient_table=table), 0.02)
    if filled:
        model.fill_tables(X, Y)
    model.fit(X, INDEXED, epochs=2, batch_size=size, shuffle=False, verbose=0)
    batches = [range(i, i + size) for i in range(0, N, size)] * 2
    expected = oracle(batches, 0.02, 0.1, 0.5, table, filled)
    np.testing.assert_allclose(net.get_weights()[0][:, 0], expected, rtol=2e-3, atol=1e-5)


def test_filled_tables_hold_losses_weights_and_gradients():
    net = network()
    model = compiled(prospect(net))
    weights = RNG.rand(N).astype("float32")
    order = RNG.permutation(N)
    y = {"label": Y[order], "index": order}
    model.fill_tables(X[order], y, sample_weight=weights[order])
    losses = weights * np.square(net.predict(X, verbose=0) - Y)[:, 0]
    np.testing.assert_allclose(model.table_losses.numpy(), losses, rtol=1e-4, atol=1e-6)
    q = keras.ops.convert_to_numpy(kr.losses.spectral_weights(losses, "extremile", 2.0, 1.0))
    np.testing.assert_allclose(model.table_weights.numpy(), q, atol=1e-5)

    given = keras.ops.convert_to_tensor(weights[:, None])

    def mean_loss(values):
        with keras.StatelessScope(state_mapping=list(zip(net.trainable_variables, values))):
            return keras.ops.sum(given * keras.ops.square(keras.ops.subtract(net(X), Y))) / N

    values = [v.value for v in net.trainable_variables]
    gradients = kr.autodiff.grad(mean_loss)(values)
    flat = np.concatenate([keras.ops.convert_to_numpy(g).ravel() for g in gradients])
    np.testing.assert_allclose(model.table_gradients.numpy().mean(0), flat, rtol=1e-3, atol=1e-6)


def test_uniform_without_gradients_is_plain_training():
    plain, net = network(), network()
    compiled(plain).fit(X, Y, **ONE)
    compiled(prospect(net, "uniform", gradient_table=False)).fit(X, INDEXED, **ONE)
    for a, b in zip(net.get_weights(), plain.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_tables_are_those_of_the_first_query_under_a_gradient_rule():
    tables = []
    for wrap in (lambda m: kr.models.SAM(m, rho=0.5), kr.models.RegularizedModel):
        inner = prospect(network())
        compiled(wrap(inner), 0.0).fit(X, INDEXED, epochs=2, batch_size=4, shuffle=False, verbose=0)
        tables.append((inner.table_losses, inner.table_weights, inner.table_gradients))
    for a, b in zip(*tables):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("table, expected", [(False, (1, 1, 1)), (True, (5, 5, 5))])
def test_passes_are_counted(table, expected):
    net, counter = counting_model()
    x, y = RNG.rand(4, 4).astype("float32"), kr.utils.with_index(np.arange(4) % 3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = compiled(kr.models.Prospect(net, 4, gradient_table=table), loss=loss)
    step = lambda: model.fit(x, y, batch_size=4, verbose=0)  # noqa: E731
    step()  # Tracing done.
    passes = tuple(count(counter, step))
    if table and keras.backend.backend() == "tensorflow":
        # `keras.ops.map` runs its function once more for the shapes; the graph drops all of that but the counter.
        passes = tuple(p - 1 for p in passes)
    assert passes == expected


def test_training_goes_on_after_loading(tmp_path):
    model = compiled(prospect(network(), "cvar", 0.3, penalty="kl"))
    model.fit(X, INDEXED, **ONE)
    model.save(tmp_path / "m.keras")
    restored = keras.models.load_model(tmp_path / "m.keras")
    for m in (model, restored):
        m.fit(X, INDEXED, **ONE)
    for a, b in zip(restored.get_weights(), model.get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    assert np.abs(restored.table_gradients.numpy()).min(axis=1).max() > 0


@pytest.mark.parametrize(
    "y, message",
    [
        (Y, "Prospect needs the index of each sample"),
        (
            {"label": Y, "index": np.arange(N) + 1},
            "num_samples - 1 = 11. Received indices from 1 to 12",
        ),
    ],
)
def test_bad_indices_leave_the_weights(y, message):
    net = network()
    before = net.get_weights()
    model = compiled(kr.models.SAM(prospect(net)))
    with pytest.raises(ValueError, match=message):
        model.fit(X, y, verbose=0)
    for a, b in zip(net.get_weights(), before):
        np.testing.assert_array_equal(a, b)


def test_bad_arguments():
    with pytest.raises(ValueError, match="`num_samples` must be an integer of at least 1"):
        kr.models.Prospect(network(), 0)
    with pytest.raises(ValueError, match="`spectrum` must be one of"):
        prospect(network(), "mean")
    with pytest.raises(ValueError, match="The table of gradients needs a built model"):
        prospect(keras.Sequential([layers.Dense(1)]))
    with pytest.raises(ValueError, match="call `compile` first"):
        prospect(network()).fill_tables(X, Y)
    net = network()
    model = prospect(net)
    net.layers[0].trainable = False
    with pytest.raises(ValueError, match="must stay those the table of gradients was made for"):
        compiled(model).fit(X, INDEXED, verbose=0)


def test_converges_where_sgd_stays_on_a_floor():
    """Ridge regression for the extremile: steps on single samples, at a constant learning rate."""
    target = oracle([range(N)] * 150, 0.1, 0.5, 10.0, table=False)
    distance = {}
    for table in (True, False):
        net = linear(0.5)
        model = compiled(prospect(net, shift_cost=10.0, gradient_table=table), 0.04)
        model.fill_tables(X, Y)
        model.fit(X, INDEXED, epochs=12, batch_size=1, verbose=0)
        distance[table] = np.linalg.norm(net.get_weights()[0][:, 0] - target)
    assert distance[True] < 5e-3 < 0.05 < distance[False], distance
