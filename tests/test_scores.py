"""What losses and layers say of outputs: logits, probabilities, labels of their own, or nothing."""

import functools

import keras
import numpy as np
import pytest
from keras import layers, losses, ops

import keras_regularize as kr
from keras_regularize import scores


def on_logits(y_true, y_pred):
    return losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)


class Own(losses.Loss):
    def call(self, y_true, y_pred):
        return on_logits(y_true, y_pred)


class WeightedSum(losses.Loss):
    def __init__(self, parts, factors):
        super().__init__()
        self.parts, self.factors = parts, factors

    def call(self, y_true, y_pred):
        return sum(f * part.call(y_true, y_pred) for f, part in zip(self.factors, self.parts))


CE = losses.SparseCategoricalCrossentropy(from_logits=True)
PARTIAL = functools.partial(losses.sparse_categorical_crossentropy, from_logits=True)


@pytest.mark.parametrize(
    "loss,expected",
    [
        (CE, True),
        (losses.CategoricalFocalCrossentropy(), False),
        ("sparse_categorical_crossentropy", False),
        ("BinaryCrossentropy", False),
        (losses.kl_divergence, False),
        (losses.KLDivergence(), False),
        (losses.Dice(), False),
        (PARTIAL, True),
        (functools.partial(PARTIAL, ignore_class=1), True),
        (functools.partial(losses.binary_crossentropy, label_smoothing=0.1), False),
        (kr.losses.MaxSup(), True),
        (kr.losses.PolyLoss(), False),
        (kr.losses.PolyLoss(from_logits=True), True),
        (kr.losses.CVaR(CE, 0.5), True),
        (kr.losses.CVaR("categorical_crossentropy", 0.5), False),
        (kr.losses.CVaR(PARTIAL, 0.5), True),
        (kr.losses.CVaR("mse", 0.5), None),
        (WeightedSum([CE, kr.losses.MaxSup()], [1.0, 0.1]), True),
        (WeightedSum([CE, losses.CategoricalCrossentropy()], [1.0, 0.1]), None),
        (on_logits, None),
        (lambda t, p: on_logits(t, p), None),
        (Own(), None),
        ("mse", None),
        (losses.Hinge(), None),
        (None, None),
    ],
)
def test_what_a_loss_says(loss, expected):
    assert scores.uses_logits(loss) is expected
    if expected is not None:
        assert not scores.is_regression(loss)


def test_regressions():
    for loss in ("mse", losses.Huber(), losses.mean_absolute_error, kr.losses.CVaR("mse", 0.5)):
        assert scores.is_regression(loss)
    for loss in (on_logits, Own(), functools.partial(on_logits), kr.losses.CVaR(on_logits, 0.5)):
        assert not scores.is_regression(loss)


def network(*last):
    return keras.Sequential([keras.Input((4,)), layers.Dense(5, "relu"), *last])


def functional(function, **arguments):
    x = keras.Input((4,))
    return keras.Model(x, function(layers.Dense(3, **arguments)(x)))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.head = layers.Dense(3)

    def call(self, x):
        return self.head(x)


@pytest.mark.parametrize(
    "make,expected",
    [
        (lambda: network(layers.Dense(3)), True),
        (lambda: network(layers.Dense(3, "softmax")), False),
        (lambda: network(layers.Dense(1, "sigmoid")), False),
        (lambda: network(layers.Dense(3), layers.Softmax()), False),
        (lambda: network(layers.Dense(3), layers.Activation("softmax")), False),
        (lambda: network(layers.Dense(3), layers.Activation("linear")), None),
        (lambda: network(layers.Dense(3, "tanh")), None),
        (lambda: network(layers.Dense(3), layers.Dropout(0.1)), None),
        (lambda: functional(lambda z: z), True),
        (lambda: functional(lambda z: z, activation="softmax"), False),
        # An operation after the last layer.
        (lambda: functional(ops.softmax), None),
        (lambda: keras.Sequential([keras.Input((4,)), network(layers.Dense(3))]), True),
        (lambda: functional(network_of_three()), False),
        (
            lambda: kr.models.SAM(kr.models.Flooding(network(layers.Dense(3, "softmax")), 0.1)),
            False,
        ),
        (Subclassed, None),
    ],
)
def test_a_model_without_a_loss_is_asked_for_its_last_layer(make, expected):
    assert scores.known_logits(make()) is expected


def network_of_three():
    return keras.Sequential([keras.Input((3,)), layers.Dense(3, "softmax")])


def test_what_is_given_comes_first_and_the_compiled_loss_next():
    model = network(layers.Dense(3, "softmax"))
    model.compile(loss=CE)
    assert scores.known_logits(model) is True
    assert scores.known_logits(model, False) is False
    told = kr.models.SAM(kr.models.VAT(network(layers.Dense(3)), from_logits=False))
    told.compile("sgd", CE)
    assert scores.known_logits(told) is False
    # A wrapper that is not compiled has the loss of the model inside.
    assert scores.known_logits(kr.models.SAM(model)) is True


def test_the_error_names_the_way_out():
    model = Subclassed()
    with pytest.raises(ValueError, match="a model without a loss.*`from_logits=True`"):
        scores.gives_logits(model)
    model.compile(loss=on_logits)
    with pytest.raises(ValueError, match="'on_logits', which does not say so.*`from_logits=True`"):
        scores.gives_logits(model)


def two_outputs():
    x = keras.Input((4,))
    return keras.Model(x, [layers.Dense(3, name="a")(x), layers.Dense(2, name="b")(x)])


def test_the_one_output_that_has_a_loss():
    model, x = two_outputs(), np.ones((2, 4), "float32")
    outputs = model(x)
    for loss in ([CE, None], {"a": CE, "b": None}):
        model.compile(loss=loss)
        assert scores.one_output(outputs, model) is outputs[0]
        assert scores.gives_logits(model) is True
        assert scores.one_label([3, 4], outputs, model) == 3
        assert scores.one_label({"a": 3, "b": 4}, outputs, model) == 3
        assert scores.one_label(3, outputs, model) == 3
    model.compile(loss=[CE, CE])
    with pytest.raises(ValueError, match="one output.*2 outputs.*None"):
        scores.one_output(outputs, model)
    assert scores.one_output({"scores": 3}, model) == 3


def test_columns_of_binary_cross_entropy_are_labels_of_their_own():
    y, z = np.array([[0.0, 1.0, 0.25]]), np.array([[1.0, -2.0, 0.5]], "float32")
    model = network(layers.Dense(3))
    for loss in (losses.BinaryCrossentropy(from_logits=True), losses.BinaryFocalCrossentropy()):
        model.compile(loss=loss)
        assert scores.class_outputs(z, model).shape == (1, 3, 1)
        rows = ops.convert_to_numpy(scores.class_labels(y, z, model))
        np.testing.assert_allclose(rows[0], [[1, 0], [0, 1], [0.75, 0.25]])
    model.compile(loss=CE)
    assert scores.class_outputs(z, model).shape == (1, 3)
    sigmoid = network(layers.Dense(3, "sigmoid"))
    assert scores.class_outputs(z, sigmoid).shape == (1, 3, 1)
    with pytest.raises(ValueError, match="a label for each"):
        scores.class_labels(np.array([1]), z, sigmoid)


def test_accuracy_needs_no_logits_but_for_one_column():
    model = network(layers.Dense(3))
    model.compile(loss=on_logits)
    z = np.array([[-3.0, -1.0, -2.0], [0.2, 0.1, 0.0]], "float32")
    found = scores.predicts_label(np.array([1, 2]), z, model)
    np.testing.assert_array_equal(ops.convert_to_numpy(found), [True, False])
    rows = np.array([[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    np.testing.assert_array_equal(
        ops.convert_to_numpy(scores.predicts_label(rows, z, model)), [True, True]
    )
    column = np.array([[0.3], [-0.3]], "float32")
    with pytest.raises(ValueError, match="`from_logits=True`"):
        scores.predicts_label(np.array([1, 0]), column, model)
    for from_logits, expected in ((True, [True, True]), (False, [False, True])):
        found = scores.predicts_label(np.array([1, 0]), column, model, from_logits)
        np.testing.assert_array_equal(ops.convert_to_numpy(found), expected)
