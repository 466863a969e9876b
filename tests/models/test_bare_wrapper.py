"""The wrapper itself changes nothing: `fit` equals that of the wrapped model, number for number."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_regularize as kr

pytestmark = pytest.mark.everywhere

BACKEND = keras.backend.backend()
RNG = np.random.RandomState(0)
X = RNG.rand(40, 6, 6, 1).astype("float32")
Y = RNG.randint(0, 3, 40)


def logit_loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def everything_cnn():
    # The activity loss stays in float32 models: Keras' own TensorFlow step cannot add a float16 one.
    activity = None if keras.mixed_precision.dtype_policy().name != "float32" else "l2"
    inputs = keras.Input((6, 6, 1))
    x = layers.Conv2D(4, 3, kernel_regularizer="l2", activity_regularizer=activity)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Dropout(0.4, seed=2)(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(3, dtype="float32")(x))


def frozen_cnn():
    model = everything_cnn()
    model.layers[1].trainable = False
    return model


class Doubled(keras.Model):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        return 2 * super().compute_loss(x, y, y_pred, sample_weight)


def doubled_cnn():
    model = everything_cnn()
    return Doubled(model.inputs, model.outputs)


class AddsLoss(keras.layers.Layer):
    def call(self, x):
        self.add_loss(0.1 * ops.mean(x**2))
        return x


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.flatten, self.penalized = layers.Flatten(), AddsLoss()
        self.dense = layers.Dense(3)

    def call(self, x):
        return self.dense(self.penalized(self.flatten(x)))


def train(build, wrap, optimizer, data=(X, Y), loss=logit_loss, metrics=("accuracy",), **fit):
    keras.utils.set_random_seed(7)
    model = build()
    wrapped = wrap(model)
    loss = loss() if callable(loss) else loss
    wrapped.compile(optimizer(), loss, metrics=metrics if isinstance(metrics, dict) else [*metrics])
    history = wrapped.fit(*data, batch_size=16, epochs=2, shuffle=False, verbose=0, **fit).history
    return model, wrapped, history


def assert_equal_to_plain(build, optimizer, atol=0.0, **arguments):
    model, plain, history = train(build, lambda m: m, optimizer, **arguments)
    same, wrapped, wrapped_history = train(
        build, kr.models.RegularizedModel, optimizer, **arguments
    )
    for name in history:
        np.testing.assert_allclose(wrapped_history[name], history[name], rtol=0, atol=atol)
    for a, b in zip(model.variables, same.variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=0, atol=atol, err_msg=a.path)
    for a, b in zip(plain.optimizer.variables, wrapped.optimizer.variables, strict=True):
        a, b = ops.convert_to_numpy(a), ops.convert_to_numpy(b)
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


@pytest.mark.parametrize(
    "build", [everything_cnn, frozen_cnn, doubled_cnn, Subclassed], ids=lambda f: f.__name__
)
def test_equals_plain_fit(build):
    assert_equal_to_plain(build, lambda: keras.optimizers.Adam(0.01))


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=2),
        lambda: keras.optimizers.SGD(0.1, use_ema=True, ema_overwrite_frequency=2),
        lambda: keras.optimizers.Adam(0.01, global_clipnorm=0.1),
        lambda: keras.optimizers.SGD(0.1, loss_scale_factor=8.0),
        lambda: keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(0.01, 10)),
    ],
    ids=["accumulation", "ema", "clipping", "loss_scale_factor", "schedule"],
)
def test_optimizer_features(optimizer):
    assert_equal_to_plain(everything_cnn, optimizer)


def test_weights():
    weights = np.linspace(0, 2, len(X)).astype("float32")
    assert_equal_to_plain(everything_cnn, lambda: "adam", sample_weight=weights)
    assert_equal_to_plain(everything_cnn, lambda: "adam", class_weight={0: 1.0, 1: 3.0, 2: 0.0})


def test_dictionaries_in_and_out():
    def build():
        a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
        x = layers.Concatenate()([layers.Dense(5)(a), b])
        outputs = {"c": layers.Dense(2, name="c")(x), "r": layers.Dense(1, name="r")(x)}
        return keras.Model({"a": a, "b": b}, outputs)

    x = {"a": RNG.rand(40, 4), "b": RNG.rand(40, 3)}
    y = {"c": RNG.randint(0, 2, 40), "r": RNG.rand(40, 1)}
    assert_equal_to_plain(
        build,
        lambda: "adam",
        data=(x, y),
        loss=lambda: {"c": logit_loss(), "r": "mse"},
        metrics={"c": ["accuracy"], "r": ["mae"]},
    )


def test_outputs_matched_by_name():
    def build():
        inputs = keras.Input((4,))
        return keras.Model(
            inputs, [layers.Dense(1, name="first")(inputs), layers.Dense(1, name="second")(inputs)]
        )

    data = (RNG.rand(40, 4), {"first": RNG.rand(40, 1), "second": RNG.rand(40, 1)})
    assert_equal_to_plain(
        build,
        lambda: "adam",
        data=data,
        loss=lambda: {"first": "mse", "second": "mae"},
        metrics={"first": ["mae"]},
    )


def test_masks_embeddings_and_sequences():
    def build():
        return keras.Sequential(
            [
                keras.Input((5,), dtype="int32"),
                layers.Embedding(9, 4, mask_zero=True),
                layers.LSTM(4, return_sequences=True),
                layers.Dense(3),
            ]
        )

    tokens = RNG.randint(0, 9, (40, 5))
    tokens[:, 3:] = 0
    data = (tokens, RNG.randint(0, 3, (40, 5)))
    # Not Adam: on TensorFlow Keras squares the sparse gradient of an embedding row by row, before it adds up
    # the rows of one token. Ours is dense there, as on the other backends, and adds in another order.
    optimizer = keras.optimizers.SGD
    assert_equal_to_plain(build, lambda: optimizer(0.1, momentum=0.9), atol=1e-7, data=data)


def test_mixed_precision_with_an_overflow():
    keras.mixed_precision.set_dtype_policy("mixed_float16")
    try:
        assert_equal_to_plain(everything_cnn, lambda: keras.optimizers.Adam(0.01))

        def overflowing():
            inner = keras.optimizers.SGD(0.1)
            return keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0**60)

        assert_equal_to_plain(everything_cnn, overflowing)
        model, wrapped, _ = train(everything_cnn, kr.models.SAM, overflowing)
        assert float(ops.convert_to_numpy(wrapped.optimizer.dynamic_scale)) < 2.0**60
        assert all(np.isfinite(v.numpy()).all() for v in model.variables)
    finally:
        keras.mixed_precision.set_dtype_policy("float32")


@pytest.mark.parametrize("dtype, scales", [("mixed_float16", True), ("float32", False)])
def test_policy_of_the_model_decides_on_loss_scaling(dtype, scales):
    class HasPolicy(keras.Model):
        def call(self, x):
            return x

    for wrap in (lambda m: m, kr.models.RegularizedModel):
        optimizer = _compiled(wrap(HasPolicy(dtype=dtype))).optimizer
        assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer) == scales


def _compiled(model):
    model.compile("sgd", logit_loss())
    return model


def test_train_on_batch_evaluate_and_predict():
    _, plain, _ = train(everything_cnn, lambda m: m, lambda: "sgd")
    inner, wrapped, _ = train(everything_cnn, kr.models.RegularizedModel, lambda: "sgd")
    assert wrapped.evaluate(X, Y, verbose=0) == plain.evaluate(X, Y, verbose=0)
    assert wrapped.train_on_batch(X, Y) == plain.train_on_batch(X, Y)
    np.testing.assert_array_equal(wrapped.predict(X, verbose=0), plain.predict(X, verbose=0))
    np.testing.assert_array_equal(wrapped.predict(X, verbose=0), inner.predict(X, verbose=0))
    np.testing.assert_array_equal(*map(ops.convert_to_numpy, (inner(X), wrapped(X))))


def test_validation_and_callbacks():
    def run(wrap):
        stop = keras.callbacks.EarlyStopping(patience=0, restore_best_weights=True)
        return train(everything_cnn, wrap, lambda: "sgd", validation_data=(X, Y), callbacks=[stop])[
            2
        ]

    assert run(kr.models.RegularizedModel) == run(lambda m: m)


@pytest.mark.parametrize("kind", ["tf.data", "PyDataset", "generator", "DataLoader"])
def test_sources_of_data(kind):
    if kind == "tf.data":
        import tensorflow as tf

        def data():
            return tf.data.Dataset.from_tensor_slices((X, Y)).batch(16)
    elif kind == "DataLoader":
        import torch

        def data():
            dataset = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
            return torch.utils.data.DataLoader(dataset, batch_size=16)
    elif kind == "generator":

        def data():
            return ((X[i : i + 16], Y[i : i + 16]) for i in [0, 16, 0, 16])
    else:

        class Rows(keras.utils.PyDataset):
            def __len__(self):
                return 2

            def __getitem__(self, i):
                return X[16 * i : 16 * i + 16], Y[16 * i : 16 * i + 16]

        data = Rows

    def run(wrap):
        keras.utils.set_random_seed(7)
        model = wrap(everything_cnn())
        model.compile("sgd", logit_loss())
        steps = {"steps_per_epoch": 2} if kind == "generator" else {}
        return model.fit(data(), epochs=2, verbose=0, shuffle=False, **steps).history

    assert run(kr.models.RegularizedModel) == run(lambda m: m)
