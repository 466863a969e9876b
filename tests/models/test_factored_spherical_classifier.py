import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_regularize as kr

RNG = np.random.default_rng(0)
CLASSES, FEATURES, BATCH = 30, 8, 6
KERNEL = RNG.normal(0.0, 0.3, (FEATURES, CLASSES)).astype("float32")
X = RNG.normal(size=(5 * BATCH + 2, 4)).astype("float32")  # The last batch is smaller.
Y = RNG.integers(0, 9, len(X))  # Labels repeat within batches.
Y[1] = Y[0]
WEIGHT = RNG.uniform(0.5, 1.5, len(X)).astype("float32")
RATES = {"z": 0.5, "mse": 0.005, "spherical": 1e-4, "taylor": 0.1}


def backbone():
    keras.utils.set_random_seed(1)
    dense = layers.Dense(FEATURES, "tanh", kernel_regularizer="l2", activity_regularizer="l1")
    return keras.Sequential([keras.Input((4,)), dense])


def factored(loss="z", rate=0.5, optimizer=None, **options):
    options = {"scale": 0.7, "shift": 1.0, "stabilize_every": 3, **options}
    model = kr.models.FactoredSphericalClassifier(backbone(), CLASSES, rate, loss=loss, **options)
    model.compile(optimizer or keras.optimizers.SGD(rate), metrics=["accuracy"])
    model.set_output_kernel(KERNEL)
    return model


class Dense(keras.losses.Loss):
    """The losses from all logits."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def call(self, y_true, logits):
        rows = ops.one_hot(ops.reshape(ops.cast(y_true, "int32"), (-1,)), CLASSES)
        label = ops.sum(rows * logits, axis=-1)
        if self.kind == "z":
            mean = ops.mean(logits, axis=-1)
            zeta = (label - mean) / ops.std(logits, axis=-1)
            return ops.log1p(ops.exp(0.7 * (1.0 - zeta))) / 0.7
        if self.kind == "mse":
            return ops.sum((logits - rows) ** 2, axis=-1)
        if self.kind == "spherical":
            squares = logits**2 + 1e-7
        else:
            squares = 1.0 + logits + logits**2 / 2
        return -ops.log(ops.sum(rows * squares, axis=-1) / ops.sum(squares, axis=-1))


@pytest.mark.parametrize("loss", RATES)
def test_equals_a_dense_layer_trained_by_gradient_descent(loss):
    rate = RATES[loss]
    model = factored(loss, rate)
    output = layers.Dense(CLASSES, use_bias=False)
    dense = keras.Sequential([backbone(), output])
    dense.build((None, 4))
    output.set_weights([KERNEL])
    dense.compile(keras.optimizers.SGD(rate), Dense(loss), metrics=["accuracy"])
    fit = {"sample_weight": WEIGHT, "batch_size": BATCH, "epochs": 3, "shuffle": False}
    history = model.fit(X, Y[:, None], verbose=0, **fit).history
    assert list(history) == ["loss"]
    expected = dense.fit(X, Y, verbose=0, **fit).history
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-5)
    got = [*model.model.get_weights(), ops.convert_to_numpy(model.output_kernel())]
    for one, other in zip(got, dense.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-6)
    np.testing.assert_allclose(
        model.predict(X, verbose=0), dense.predict(X, verbose=0), rtol=1e-4, atol=1e-5
    )
    results = model.evaluate(X, Y, verbose=0), dense.evaluate(X, Y, verbose=0)
    np.testing.assert_allclose(*results, rtol=1e-5)


def test_what_is_kept_of_the_kernel_stays_exact():
    model = factored(stabilize_every=1000)
    model.fit(X, Y, batch_size=BATCH, epochs=10, verbose=0)
    kernel = ops.convert_to_numpy(model.output_kernel()).astype("float64")
    np.testing.assert_allclose(model.gram.numpy(), kernel @ kernel.T, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.total.numpy(), kernel.sum(axis=1), rtol=1e-4, atol=1e-5)
    product = model.small.numpy() @ model.small_inverse.numpy().T
    np.testing.assert_allclose(product, np.eye(FEATURES), atol=1e-4)
    assert np.abs(model.small.numpy() - np.eye(FEATURES)).max() > 0.01
    # Rows that no label named were never written to.
    assert np.array_equal(model.tall.numpy()[9:], KERNEL.T[9:])


def test_training_goes_on_where_it_was_saved(tmp_path):
    model, whole = factored(optimizer="adam"), factored(optimizer="adam")
    fit = {"batch_size": BATCH, "shuffle": False, "verbose": 0}
    model.fit(X, Y, **fit)
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    restored.fit(X, Y, **fit)
    whole.fit(X, Y, epochs=2, **fit)
    for one, other in zip(restored.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_logits_that_do_not_differ_have_a_finite_gradient():
    model = factored()
    model.set_output_kernel(np.zeros((FEATURES, CLASSES)))
    model.train_on_batch(X[:BATCH], Y[:BATCH])
    assert all(np.isfinite(w).all() for w in model.get_weights())


def test_learns_many_classes():
    keras.utils.set_random_seed(0)
    centers = RNG.normal(size=(200, 16)).astype("float32")
    y = RNG.permutation(np.arange(2000) % 200)
    x = centers[y] + 0.2 * RNG.normal(size=(2000, 16)).astype("float32")
    net = keras.Sequential([keras.Input((16,)), layers.Dense(32, "tanh")])
    model = kr.models.FactoredSphericalClassifier(net, 200, learning_rate=2.0, shift=3.0)
    model.compile("adam", metrics=["accuracy"])
    model.fit(x, y, batch_size=50, epochs=15, verbose=0)
    assert model.evaluate(x, y, verbose=0)[1] > 0.9


def test_wrong_use_is_named():
    make = kr.models.FactoredSphericalClassifier
    for options in ({"num_classes": 1}, {"loss": "softmax"}, {"scale": 0}, {"stabilize_every": 0}):
        with pytest.raises(ValueError, match=f"`{next(iter(options))}` must be"):
            make(backbone(), **{"num_classes": 4, **options})
    model = make(backbone(), 4)
    with pytest.raises(ValueError, match="has its loss as an argument"):
        model.compile("sgd", "mse")
    model.compile("sgd")
    with pytest.raises(ValueError, match="needs labels"):
        model.fit(X, verbose=0)
    with pytest.raises(
        ValueError, match=r"class ids of shape .* Received labels of shape \(32, 4\)"
    ):
        model.fit(X, np.eye(4)[Y % 4], verbose=0)
    outer = kr.models.SAM(make(backbone(), 4))
    outer.compile("sgd")
    with pytest.raises(ValueError, match="must be the outermost wrapper"):
        outer.fit(X, Y % 4, verbose=0)
    images = keras.Sequential([keras.Input((4, 4, 1)), layers.Conv2D(3, 2)])
    with pytest.raises(ValueError, match="one output of shape"):
        make(images, 4)(np.zeros((1, 4, 4, 1)))
