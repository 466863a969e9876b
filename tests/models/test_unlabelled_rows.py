"""Unlabelled rows train the same whatever brings the data."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_regularize as kr

BACKEND = keras.backend.backend()
RNG = np.random.RandomState(0)
X = RNG.rand(24, 4).astype("float32")
Y = np.where(RNG.rand(24) < 0.4, RNG.randint(0, 3, 24), -1)
Y[:8] = -1  # One batch without a label.
Y[8:16] = np.arange(8) % 3  # One in which all have one.
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, i):
        return X[8 * i : 8 * i + 8], Y[8 * i : 8 * i + 8]


def tf_dataset():
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)


def torch_loader():
    import torch

    data = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    return torch.utils.data.DataLoader(data, batch_size=8)


SOURCES = {"PyDataset": Batches}
if BACKEND == "tensorflow":
    SOURCES["tf.data"] = tf_dataset
if BACKEND == "torch":
    SOURCES["DataLoader"] = torch_loader


def history(wrap, *data):
    keras.utils.set_random_seed(1)
    net = keras.Sequential([keras.Input((4,)), layers.Dense(5, "tanh"), layers.Dense(3)])
    model = wrap(net)
    model.compile(keras.optimizers.SGD(0.1), LOSS, metrics=["accuracy"])
    logs = model.fit(*data, batch_size=8 if len(data) == 2 else None, shuffle=False, verbose=0)
    return logs.history, net.get_weights()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda m: kr.models.VAT(m, epsilon=0.5, seed=3),
        lambda m: kr.models.RobustSelfSupervised(m, 0.5, steps=2),
    ],
    ids=["VAT", "RobustSelfSupervised"],
)
def test_every_source_of_data_trains_alike(wrap):
    logs, weights = history(wrap, X, Y)
    assert np.isfinite(logs["loss"]).all() and 0 <= logs["accuracy"][0] < 1
    for name, source in SOURCES.items():
        other, moved = history(wrap, source())
        for key, values in logs.items():
            np.testing.assert_allclose(other[key], values, rtol=1e-5, err_msg=name)
        for a, b in zip(moved, weights):
            np.testing.assert_allclose(a, b, atol=1e-6, err_msg=name)


def two_outputs(form):
    keras.utils.set_random_seed(1)
    x = keras.Input((4,))
    hidden = layers.Dense(5, "tanh")(x)
    # Of another name than position: dictionaries are sorted.
    scores, other = layers.Dense(3, name="scores")(hidden), layers.Dense(1, name="other")(hidden)
    if form == "one":
        return keras.Model(x, scores)
    return keras.Model(x, [scores, other] if form == "list" else {"scores": scores, "other": other})


OTHER = RNG.normal(size=(24, 1)).astype("float32") - 1.0  # Negative, and no labels.
WEIGHTS = np.linspace(0.5, 1.5, 24).astype("float32")
SEMI_SUPERVISED = {
    "VAT": lambda m: kr.models.VAT(m, epsilon=0.5, seed=3),
    "RobustSelfSupervised": lambda m: kr.models.RobustSelfSupervised(m, 0.5, steps=2),
    "SAM": lambda m: kr.models.SAM(kr.models.VAT(m, epsilon=0.5, seed=3)),
}


def run(wrap, form, y, loss, metrics, weights=None):
    model = wrap(two_outputs(form))
    model.compile(keras.optimizers.SGD(0.1), loss, metrics=metrics)
    options = {"batch_size": 8, "verbose": 0}
    logs = model.fit(X, y, sample_weight=weights, shuffle=False, **options).history
    measured = model.evaluate(X, y, return_dict=True, **options)
    return logs, measured, model.model


@pytest.mark.parametrize("name", SEMI_SUPERVISED)
@pytest.mark.parametrize(
    "form, y, loss, metrics",
    [
        ("list", [Y, OTHER], [LOSS, None], [["accuracy"], ["mae"]]),
        ("list", {"scores": Y, "other": OTHER}, [LOSS, None], [["accuracy"], ["mae"]]),
        ("list", [Y], [LOSS, None], None),
        ("dict", {"scores": Y, "other": OTHER}, {"scores": LOSS}, {"scores": ["accuracy"]}),
        (
            "dict",
            {"scores": Y, "other": OTHER},
            {"scores": LOSS, "other": None},
            {"scores": ["accuracy"], "other": ["mae"]},
        ),
        ("one", [Y], [LOSS], ["accuracy"]),
    ],
)
def test_labels_in_a_structure_train_as_those_of_the_output_alone(name, form, y, loss, metrics):
    wrap = SEMI_SUPERVISED[name]
    expected, measured, alone = run(wrap, "one", Y, LOSS, ["accuracy"])
    logs, found, net = run(wrap, form, y, loss, metrics)
    np.testing.assert_allclose(logs["loss"], expected["loss"], rtol=1e-5)
    assert found["loss"] == pytest.approx(measured["loss"], rel=1e-5)
    for a, b in zip(net.layers[1:3], alone.layers[1:3]):
        a = net.get_layer("scores") if b.name == "scores" else a
        np.testing.assert_allclose(a.get_weights()[0], b.get_weights()[0], atol=1e-6)
    if metrics is not None:
        key = "accuracy" if form == "one" else "scores_accuracy"
        assert logs[key] == pytest.approx(expected["accuracy"], rel=1e-5)
        assert found[key] == pytest.approx(measured["accuracy"], rel=1e-5)
    if "other_mae" in found:
        net = run(wrap, form, y, loss, metrics)[2]
        other = net.predict(X, verbose=0)["other" if form == "dict" else 1]
        assert found["other_mae"] == pytest.approx(np.mean(np.abs(other - OTHER)), rel=1e-5)


def test_weights_of_a_structure_act_on_the_labelled_rows():
    wrap = SEMI_SUPERVISED["VAT"]
    expected = run(wrap, "one", Y, LOSS, None, WEIGHTS)[0]
    for weights in (WEIGHTS, [WEIGHTS, WEIGHTS]):
        logs = run(wrap, "list", [Y, OTHER], [LOSS, None], None, weights)[0]
        np.testing.assert_allclose(logs["loss"], expected["loss"], rtol=1e-5)


class TwoTasks(kr.models.RegularizedModel):
    """A semi-supervised method of one's own that takes several losses."""

    semi_supervised = True


def test_every_output_has_unlabelled_rows_of_its_own():
    keras.utils.set_random_seed(1)
    x = keras.Input((4,))
    net = keras.Model(x, [layers.Dense(3)(x), layers.Dense(3)(x), layers.Dense(1)(x)])
    second = np.roll(Y, 5)
    model = TwoTasks(net)
    model.compile(keras.optimizers.SGD(0.0), [LOSS, LOSS, "mse"], loss_weights=[1.0, 0.5, 2.0])
    total = float(model.train_on_batch(X, [Y, second, OTHER])[0])
    a, b, c = (np.asarray(p, "float64") for p in net.predict(X, verbose=0))

    def crossentropy(z, y):
        log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
        return -np.mean(log_p[y >= 0, y[y >= 0]])

    squares = np.mean((c - OTHER) ** 2)
    expected = crossentropy(a, Y) + 0.5 * crossentropy(b, second) + 2.0 * squares
    assert total == pytest.approx(expected, rel=1e-5)
    found = model.evaluate(X, [Y, second, OTHER], batch_size=24, verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(expected, rel=1e-5)


def test_labels_that_fit_no_output_are_refused():
    model = TwoTasks(two_outputs("list"))
    model.compile("sgd", [LOSS, "mse"])
    with pytest.raises(ValueError, match="for every output"):
        model.train_on_batch(X, [Y, OTHER, OTHER])
