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


@pytest.mark.parametrize("kind", ["MultiView", "MomentumViews"])
def test_saved_and_loaded(kind, tmp_path):
    parts = {"predictor": layers.Dense(3)} if kind == "MomentumViews" else {"views": 2}
    model = getattr(kr.models, kind)(
        encoder(), layers.GaussianNoise(0.1), **parts, projector=projector()
    )
    model.compile("sgd", kr.losses.Alignment())
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
    ],
)
def test_what_does_not_fit(make, message):
    with pytest.raises(ValueError, match=message):
        make()
