import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_regularize as kr

RNG = np.random.RandomState(0)
X, Y = RNG.rand(16, 4).astype("float32"), RNG.randint(0, 3, 16)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@keras.saving.register_keras_serializable("tests")
class MarginHead(keras.layers.Layer):
    def __init__(self, margin=0.5, **kwargs):
        super().__init__(**kwargs)
        self.margin = margin
        self.dense = layers.Dense(3)

    def build(self, shape):
        self.dense.build(shape[0])

    def call(self, inputs):
        features, labels = inputs
        logits = self.dense(features)
        if labels is None:
            return logits
        return logits - self.margin * ops.one_hot(ops.cast(labels, "int32"), 3)

    def compute_output_shape(self, shape):
        return (shape[0][0], 3)

    def get_config(self):
        return {**super().get_config(), "margin": self.margin}


def head_model(margin=0.5):
    keras.utils.set_random_seed(1)
    x, labels = keras.Input((4,)), keras.Input((), dtype="int32", optional=True)
    return keras.Model([x, labels], MarginHead(margin)([layers.Dense(5, "tanh")(x), labels]))


def compiled(model):
    model.compile("sgd", LOSS, metrics=["accuracy"])
    return model


def test_labels_act_in_fit_and_not_at_inference():
    net = head_model(2.0)
    model = compiled(kr.models.WithLabels(net))
    logits = ops.convert_to_numpy(net([X, None])).astype("float64")
    logits[np.arange(16), Y] -= 2.0
    expected = (np.log(np.exp(logits).sum(-1)) - logits[np.arange(16), Y]).mean()
    logged = model.fit(X, Y, batch_size=16, verbose=0).history["loss"][0]
    assert logged == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(
        model.predict(X, verbose=0), ops.convert_to_numpy(net([X, None])), atol=1e-6
    )
    assert model.evaluate(X, Y, verbose=0)[0] < logged


def test_nests_and_saves(tmp_path):
    model = compiled(kr.models.SAM(kr.models.VAT(kr.models.WithLabels(head_model()), epsilon=0.5)))
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.evaluate(X, Y, verbose=0) == model.evaluate(X, Y, verbose=0)
    histories = [m.fit(X, Y, shuffle=False, verbose=0).history for m in (loaded, model)]
    assert histories[0] == histories[1]


def test_attacks_see_the_model_without_labels():
    seen = []

    class Spy(MarginHead):
        def call(self, inputs):
            seen.append(inputs[1] is None)
            return super().call(inputs)

    x, labels = keras.Input((4,)), keras.Input((), dtype="int32", optional=True)
    net = keras.Model([x, labels], Spy()([x, labels]))
    model = kr.models.AdversarialTraining(kr.models.WithLabels(net), kr.attacks.FGSM(0.1))
    compiled(model)
    del seen[:]
    model.fit(X, Y, verbose=0, batch_size=16)
    assert True in seen and False in seen


def test_one_hot_labels_are_fed_as_they_are():
    x, labels = keras.Input((4,)), keras.Input((3,), optional=True)

    class Reads(keras.layers.Layer):
        def call(self, inputs):
            return inputs[0][:, :3] + (0.0 if inputs[1] is None else inputs[1])

        def compute_output_shape(self, shape):
            return (shape[0][0], 3)

    model = kr.models.WithLabels(keras.Model([x, labels], Reads()([layers.Dense(4)(x), labels])))
    model.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    assert np.isfinite(
        model.fit(X, np.eye(3)[Y].astype("float32"), verbose=0).history["loss"]
    ).all()


def test_missing_labels_are_explained():
    with pytest.raises(ValueError, match="feeds the labels"):
        compiled(kr.models.WithLabels(head_model())).fit(X, verbose=0)


def test_several_inputs():
    a, b = keras.Input((4,)), keras.Input((2,))
    labels = keras.Input((), dtype="int32", optional=True)
    joined = layers.Concatenate()([a, b])
    model = kr.models.WithLabels(keras.Model([a, b, labels], MarginHead()([joined, labels])))
    compiled(model).fit([X, X[:, :2]], Y, verbose=0)
    assert model.predict([X, X[:, :2]], verbose=0).shape == (16, 3)
