"""The models that weight samples by their losses, with every kind of loss that Keras compiles."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_regularize as kr

RNG = np.random.RandomState(0)
X = RNG.rand(12, 4).astype("float32")
GROUP = np.arange(12) % 2  # The third group is absent.
NUMBERS = RNG.rand(12, 3).astype("float32")
IDS = np.arange(12) % 3


def network(outputs, activation=None):
    keras.utils.set_random_seed(0)
    stack = [layers.Dense(5, "tanh"), layers.Dense(outputs, activation)]
    return keras.Sequential([keras.Input((4,)), *stack])


def kept_axis(y, z):
    return ops.square(y - z)


def of_lists(y, z):
    return ops.logsumexp(z, axis=1) - ops.sum(y * z, axis=1)


def log_sum_exp(z):
    return np.log(np.exp(z).sum(-1))


# The number of outputs, their activation, labels, the loss, and the loss of each sample.
LOSSES = {
    "one kept axis": (1, None, NUMBERS[:, :1], kept_axis, lambda y, z: (y - z)[:, 0] ** 2),
    "kept axis": (3, None, NUMBERS, kept_axis, lambda y, z: ((y - z) ** 2).mean(1)),
    "lists": (3, None, NUMBERS, of_lists, lambda y, z: log_sum_exp(z) - (y * z).sum(1)),
    "binary labels without an axis": (
        1,
        "sigmoid",
        (np.arange(12) % 2).astype("float32"),
        "binary_crossentropy",
        lambda y, p: -np.log(np.where(y == 1, p[:, 0], 1 - p[:, 0])),
    ),
    "a reduction by the weights": (
        3,
        None,
        IDS,
        keras.losses.SparseCategoricalCrossentropy(True, reduction="mean_with_sample_weight"),
        lambda y, z: log_sum_exp(z) - z[np.arange(12), y],
    ),
}
kinds = pytest.mark.parametrize("kind", LOSSES)


def logged(model, loss, y, weights=None):
    model.compile(keras.optimizers.SGD(0.1), loss)
    options = {"batch_size": 12, "shuffle": False, "verbose": 0}
    return model.fit(X, y, sample_weight=weights, **options).history["loss"][0]


def expected_losses(kind):
    outputs, activation, y, loss, of_samples = LOSSES[kind]
    net = network(outputs, activation)
    return net, y, loss, of_samples(y, np.asarray(net.predict(X, verbose=0), "float64"))


@kinds
def test_group_dro(kind):
    net, y, loss, losses = expected_losses(kind)
    model = kr.models.GroupDRO(net, 3, step_size=0.5)
    got = logged(model, loss, {"label": y, "group": GROUP})
    means = np.array([losses[GROUP == 0].mean(), losses[GROUP == 1].mean(), 0.0])
    q = np.exp(0.5 * means) / np.exp(0.5 * means).sum()
    assert got == pytest.approx(q @ means, rel=1e-4)
    np.testing.assert_allclose(model.group_weights.numpy(), q, rtol=1e-4)


@kinds
@pytest.mark.parametrize("gradient_table", [False, True])
def test_prospect(kind, gradient_table):
    net, y, loss, losses = expected_losses(kind)
    model = kr.models.Prospect(net, 12, "esrm", 2.0, gradient_table=gradient_table)
    got = logged(model, loss, kr.utils.with_index(y))
    assert got == pytest.approx(losses.mean(), rel=1e-4)  # Weights of a table of zeros.
    np.testing.assert_allclose(model.table_losses.numpy(), losses, rtol=1e-4, atol=1e-6)


@kinds
def test_co_teaching(kind):
    net, y, loss, losses = expected_losses(kind)
    got = logged(kr.models.CoTeaching(net, keras.models.clone_model(net), 0.25), loss, y)
    other = expected_losses(kind)[0]
    assert np.isfinite(got)
    twin = keras.models.clone_model(other)
    twin.set_weights(other.get_weights())
    got = logged(kr.models.CoTeaching(other, twin, 0.25), loss, y)
    assert got == pytest.approx(2 * np.sort(losses)[:9].mean(), rel=1e-4)


@kinds
def test_ens_loss_logs_it(kind):
    net, y, loss, losses = expected_losses(kind)
    if net.output_shape[-1] == 1:
        y = (y > 0.5).astype("float32")
        of_samples, z = LOSSES[kind][4], np.asarray(net.predict(X, verbose=0), "float64")
        got = logged(kr.models.EnsLoss(net, seed=1, from_logits=kind == "one kept axis"), loss, y)
        assert got == pytest.approx(of_samples(y, z).mean(), rel=1e-4)


def padded(model, length, **columns):
    x = np.zeros((12, length), "int32")
    x[:, :4] = np.random.RandomState(1).randint(1, 9, (12, 4))
    x[:4, 3] = 0
    y = np.zeros((12, length), "int32")
    y[:, :4] = np.random.RandomState(2).randint(0, 3, (12, 4))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = model(lambda: embedded(length))
    model.compile(keras.optimizers.SGD(0.5), loss)
    y = {"label": y, **columns} if columns else y
    options = {"batch_size": 6, "epochs": 2, "shuffle": False, "verbose": 0}
    return model.fit(x, y, **options).history["loss"], model.get_weights()


def embedded(length):
    keras.utils.set_random_seed(0)
    table = layers.Embedding(9, 4, mask_zero=True)
    return keras.Sequential([keras.Input((length,), dtype="int32"), table, layers.Dense(3)])


@pytest.mark.parametrize(
    "model, columns",
    [
        (lambda net: kr.models.GroupDRO(net(), 3, 0.5), {"group": GROUP}),
        (lambda net: kr.models.Prospect(net(), 12), {"index": np.arange(12)}),
        (lambda net: kr.models.CoTeaching(net(), net(), 0.25), {}),
    ],
    ids=["GroupDRO", "Prospect", "CoTeaching"],
)
def test_padding_changes_nothing(model, columns):
    for a, b in zip(padded(model, 4, **columns), padded(model, 9, **columns), strict=True):
        for one, other in zip(a, b, strict=True):
            np.testing.assert_allclose(one, other, atol=2e-6)
