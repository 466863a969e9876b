"""Views in training, features of the encoder in `predict`."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_regularize as kr

X = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")


def encoder(units=6):
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), layers.Dense(units, "tanh")])


def projector():
    return keras.Sequential([keras.Input((6,)), layers.Dense(3)])


def numpy(x):
    return ops.convert_to_numpy(x)


@pytest.mark.everywhere
@pytest.mark.parametrize("wrap", [lambda model: model, kr.models.SAM], ids=["plain", "SAM"])
def test_fit_without_labels_lowers_the_loss(wrap):
    inner = kr.models.MultiView(encoder(), layers.GaussianNoise(0.1, seed=0), projector=projector())
    model = wrap(inner)
    model.compile(keras.optimizers.Adam(0.02), kr.losses.NTXent(0.5))
    history = model.fit(
        X, epochs=8, batch_size=8, validation_data=(X, None), shuffle=False, verbose=0
    ).history
    assert history["loss"][-1] < history["loss"][0] - 0.05
    assert np.isfinite(history["val_loss"]).all()
    features = model.predict(X, verbose=0)
    np.testing.assert_allclose(features, numpy(inner.encoder(X)), rtol=1e-5)
    assert np.isfinite(model.evaluate(X, verbose=0))
    weights = np.ones(16, "float32")
    assert np.isfinite(np.ravel(model.train_on_batch(X, np.arange(16) % 3, weights))).all()
    assert tuple(inner(X).shape) == (16, 2, 3)


def test_a_sum_of_losses_of_views_needs_no_labels():
    losses = {"contrast": kr.losses.NTXent(0.5), "align": kr.losses.Alignment()}
    losses["sum"] = kr.losses.WeightedSum(list(losses.values()), [1.0, 2.0])
    found = {}
    for name, loss in losses.items():
        model = kr.models.MultiView(encoder(), layers.GaussianNoise(0.1, seed=0))
        model.compile(keras.optimizers.SGD(0.0), loss)
        found[name] = model.fit(X, batch_size=16, shuffle=False, verbose=0).history["loss"][0]
    assert found["sum"] == pytest.approx(found["contrast"] + 2 * found["align"], rel=1e-4)


def test_labels_and_weights_reach_the_loss():
    model = kr.models.MultiView(encoder())
    loss = kr.losses.SupCon(0.5)
    model.compile("sgd", loss)
    views, y = np.stack([X, X[::-1]], 1), np.arange(16) % 3
    weights = (np.arange(16) % 2).astype("float32")
    expected = float(numpy(loss(y, model(views), weights)))
    assert model.evaluate(views, y, sample_weight=weights, verbose=0, batch_size=16) == (
        pytest.approx(expected, rel=1e-5)
    )


def test_views_together_or_one_by_one():
    views = np.stack([X, 2 * X, 3 * X], axis=1)
    found = [
        numpy(kr.models.MultiView(encoder(), views=3, concatenate=together)(views))
        for together in (True, False)
    ]
    single = numpy(encoder()(2 * X))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)
    np.testing.assert_allclose(found[0][:, 1], single, rtol=1e-5)
    # Batch statistics are common to all views, or those of each.
    norm = keras.Sequential([keras.Input((4,)), layers.BatchNormalization()])
    one, each = (
        numpy(kr.models.MultiView(norm, views=3, concatenate=c)(views, training=True))
        for c in (True, False)
    )
    np.testing.assert_allclose(each[:, 0], each[:, 2], rtol=1e-2, atol=1e-2)
    assert np.abs(one[:, 0] - one[:, 2]).max() > 0.5


def test_each_view_has_a_draw_of_its_own():
    model = kr.models.MultiView(encoder(), layers.GaussianNoise(0.5))
    z = numpy(model(X))
    assert np.abs(z[:, 0] - z[:, 1]).max() > 0.05


@pytest.mark.parametrize("kind", ["MultiView", "MomentumViews", "queue"])
def test_saved_and_loaded(kind, tmp_path):
    make = kr.models.MultiView if kind == "MultiView" else kr.models.MomentumViews
    parts = {
        "MultiView": {"views": 2},
        "MomentumViews": {"predictor": layers.Dense(3)},
        "queue": {"queue": kr.layers.NegativeQueue(20)},
    }
    model = make(encoder(), layers.GaussianNoise(0.1), **parts[kind], projector=projector())
    model.compile("sgd", None if kind == "queue" else kr.losses.Alignment())
    model.fit(X, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.predict(X, verbose=0), model.predict(X, verbose=0), rtol=1e-6)
    assert len(again.weights) == len(model.weights)
    for weight, other in zip(model.weights, again.weights):
        np.testing.assert_allclose(numpy(weight), numpy(other), rtol=1e-6)


@pytest.mark.everywhere
@pytest.mark.parametrize("wrap", [lambda model: model, kr.models.SAM], ids=["plain", "SAM"])
def test_averages_follow_once_a_step(wrap):
    net = encoder()
    inner = kr.models.MomentumViews(
        net, layers.GaussianNoise(0.1), projector(), layers.Dense(3), momentum=0.75
    )
    model = wrap(inner)
    model.compile(keras.optimizers.SGD(0.5), kr.losses.InfoNCE(0.5, symmetric=False))
    start = [w.copy() for w in net.get_weights()]
    for before, average in zip(start, inner.average_encoder.get_weights()):
        np.testing.assert_array_equal(before, average)
    model.train_on_batch(X)
    moved = net.get_weights()
    for before, average in zip(start, inner.average_encoder.get_weights()):
        np.testing.assert_allclose(average, before, rtol=1e-6)  # They follow where the step began.
    model.train_on_batch(X)
    for before, now, average in zip(start, moved, inner.average_encoder.get_weights()):
        np.testing.assert_allclose(average, 0.75 * before + 0.25 * now, rtol=1e-5, atol=1e-7)
    assert np.abs(moved[0] - start[0]).max() > 0
    np.testing.assert_allclose(model.predict(X, verbose=0), numpy(net(X)), rtol=1e-5)
    assert len(inner.trainable_variables) == 6


@pytest.mark.everywhere
@pytest.mark.parametrize("wrap", [lambda model: model, kr.models.SAM], ids=["plain", "SAM"])
def test_a_queue_of_negatives(wrap):
    net, queue = encoder(), kr.layers.NegativeQueue(20, 0.5, seed=0)
    model = wrap(kr.models.MomentumViews(net, momentum=0.75, queue=queue))
    model.compile(keras.optimizers.SGD(0.5))
    views = np.stack([X, X[::-1]], axis=1)
    model(views)
    old = numpy(queue.keys).astype("float64")
    np.testing.assert_allclose(np.linalg.norm(old, axis=1), 1.0, rtol=1e-5)

    def directions(x):
        z = numpy(net(x)).astype("float64")
        return z / np.linalg.norm(z, axis=1, keepdims=True)

    q, k = directions(views[:, 0]), directions(views[:, 1])
    own = (q * k).sum(1) / 0.5
    expected = np.log(np.exp(own) + np.exp(q @ old.T / 0.5).sum(1)) - own
    loss = model.evaluate(views, batch_size=16, verbose=0)
    assert loss == pytest.approx(expected.mean(), rel=1e-4)
    np.testing.assert_allclose(numpy(queue.keys), old, rtol=1e-6)  # Evaluation leaves no trace.
    loss = np.ravel(model.train_on_batch(views))[0]
    assert loss == pytest.approx(expected.mean(), rel=1e-4)
    np.testing.assert_allclose(numpy(queue.keys), np.r_[k, old][:20], rtol=1e-4, atol=1e-6)


@pytest.mark.rotating
def test_learns_from_digits_without_labels_what_helps_with_few():
    from sklearn.datasets import load_digits

    digits, labels = load_digits(return_X_y=True)
    x = (digits / 16).astype("float32")
    few = np.concatenate([np.flatnonzero(labels[:1000] == digit)[:3] for digit in range(10)])
    generator = np.random.default_rng(0)
    padded = np.pad(x[:1000].reshape(-1, 8, 8), [(0, 0), (1, 1), (1, 1)])

    def moved(image):
        i, j = generator.integers(0, 3, 2)
        return image[i : i + 8, j : j + 8].reshape(64) + generator.normal(0, 0.15, 64)

    views = np.array([[moved(image) for _ in range(2)] for _ in range(8) for image in padded])
    keras.utils.set_random_seed(0)
    hidden = [layers.Dense(256, "relu"), layers.Dense(64)]
    net = keras.Sequential([keras.Input((64,)), *hidden])
    head = keras.Sequential([keras.Input((64,)), layers.Dense(64, "relu"), layers.Dense(64)])
    model = kr.models.MultiView(net, projector=head)
    model.compile(keras.optimizers.Adam(0.002), kr.losses.NTXent(0.5))
    model.fit(views.astype("float32"), batch_size=250, epochs=5, verbose=0)

    def accuracy(features):
        known = features[few], labels[few], features[1000:], labels[1000:]
        return kr.analysis.linear_probe(*known, l2=1e-2).accuracy

    assert accuracy(model.predict(x, verbose=0)) > accuracy(x) + 0.02


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: kr.models.MultiView(layers.Dense(3)), "encoder"),
        (lambda: kr.models.MultiView(encoder(), lambda x: x), "augmentation"),
        (lambda: kr.models.MultiView(encoder(), views=1), "views"),
        (lambda: kr.models.MultiView(encoder())(X), "inputs are views"),
        (lambda: kr.models.MultiView(encoder())(np.stack([X] * 3, 1)), "inputs are views"),
        (
            lambda: kr.models.MultiView(keras.Sequential([layers.Reshape((2, 2))]))(
                np.stack([X, X], 1)
            ),
            "features",
        ),
        (lambda: kr.models.MomentumViews(keras.Sequential([layers.Dense(2)])), "built"),
        (lambda: kr.models.MomentumViews(encoder(), projector=layers.Dense(2)), "built"),
        (lambda: kr.models.MomentumViews(encoder(), momentum=1.0), "momentum"),
        (lambda: kr.models.MomentumViews(encoder(), predictor=len), "predictor"),
        (lambda: kr.models.MomentumViews(encoder(), queue=20), "queue"),
        (lambda: kr.layers.NegativeQueue(0), "size"),
        (lambda: kr.layers.NegativeQueue(temperature=0.0), "temperature"),
        (lambda: kr.layers.NegativeQueue(5)(X), "queries and keys"),
    ],
)
def test_what_does_not_fit(make, message):
    with pytest.raises(ValueError, match=message):
        make()
