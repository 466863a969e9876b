"""The compiled loss per sample is what Keras reduces, however outputs, labels and weights are passed."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_regularize.autodiff import Batch, Forward
from keras_regularize.autodiff.compiled_losses import sample_losses
from tests.helpers import array

pytestmark = pytest.mark.everywhere

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 4)).astype("float32")


def two_outputs(kind):
    """A functional model with outputs `(batch, 2)` and `(batch, 3)`, as a list or a dictionary."""
    keras.utils.set_random_seed(0)
    x = keras.Input((4,))
    a, b = layers.Dense(2, name="a")(x), layers.Dense(3, name="b")(x)
    return keras.Model(x, {"list": [a, b], "dict": {"b": b, "a": a}}[kind])


A, B = RNG.normal(size=(6, 2)).astype("float32"), RNG.normal(size=(6, 3)).astype("float32")
PAIRINGS = {
    "lists": ("list", ["mse", "mae"], [A, B], None),
    "one loss for all": ("list", "mse", [A, B], None),
    "weights": ("list", ["mse", "mae"], [A, B], [0.5, 2.0]),
    "names": ("list", {"b": "mae", "a": "mse"}, {"a": A, "b": B}, {"a": 3.0, "b": 1.0}),
    "one label for one loss": ("list", ["mse", None], A, None),
    "a label in a list": ("list", [None, "mae"], [B], None),
    "dictionary": ("dict", {"b": "mae", "a": "mse"}, {"b": B, "a": A}, {"b": 0.3, "a": 1.0}),
    "dictionary with one loss": ("dict", {"b": "mae"}, {"a": A, "b": B}, None),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("pairing", PAIRINGS)
def test_mean_over_samples_is_the_loss_of_keras(pairing, weighted):
    kind, loss, y, loss_weights = PAIRINGS[pairing]
    model = two_outputs(kind)
    model.compile("sgd", loss, loss_weights=loss_weights)
    outputs = model(X)
    weights = ops.convert_to_tensor(np.linspace(0.5, 2.0, 6, dtype="float32")) if weighted else None
    expected = model.compute_loss(X, y, outputs, weights)
    forward = Forward(model)
    losses, found_weights = forward.weighted_losses(Batch(X, y, weights), outputs)
    np.testing.assert_allclose(array(ops.mean(losses * found_weights)), array(expected), rtol=1e-5)
    if not weighted:
        mean = ops.mean(forward.sample_losses(y, outputs))
        np.testing.assert_allclose(array(mean), array(expected), rtol=1e-5)


def test_the_first_sample_is_not_everybodys_label():
    model = two_outputs("list")
    model.compile("sgd", ["mse", None])
    outputs = model(X)
    expected = np.mean((array(outputs[0]) - A) ** 2, axis=1)
    np.testing.assert_allclose(array(Forward(model).sample_losses(A, outputs)), expected, rtol=1e-5)


def test_missing_labels_are_an_error():
    model = two_outputs("list")
    model.compile("sgd", ["mse", "mae"])
    with pytest.raises(ValueError, match="labels for every output"):
        Forward(model).sample_losses([A], model(X))


CASES = {
    "binary string, labels without the axis": ("binary_crossentropy", (6,), (6, 1)),
    "binary object, labels without the axis": (keras.losses.BinaryCrossentropy(), (6,), (6, 1)),
    "mse, labels without the axis": ("mse", (6,), (6, 1)),
    "function, outputs without the axis": (lambda t, p: ops.square(t - p), (6, 1), (6,)),
    "a loss that keeps the axis": (lambda t, p: ops.square(t - p), (6, 3), (6, 3)),
    "over time": ("mse", (6, 5, 2), (6, 5, 2)),
    "list-wise": (lambda t, p: ops.mean(ops.square(t - p), axis=(1, 2)), (6, 5, 2), (6, 5, 2)),
    "the name of no particular crossentropy": ("crossentropy", (6,), (6, 1)),
}


@pytest.mark.parametrize("case", CASES)
def test_losses_as_keras_compiles_them(case):
    loss, labels, shape = CASES[case]
    y = RNG.uniform(size=labels).round().astype("float32")
    outputs = ops.convert_to_tensor(RNG.uniform(0.1, 0.9, size=shape).astype("float32"))
    model = keras.Sequential([keras.Input(shape[1:]), layers.Identity()])
    model.compile("sgd", loss)
    expected = model.compute_loss(None, y, outputs)
    found = sample_losses(loss, y, outputs)
    assert tuple(found.shape) == (6,)
    np.testing.assert_allclose(array(ops.mean(found)), array(expected), rtol=1e-5)


@pytest.mark.parametrize("weighted", ["none", "samples", "positions"])
@pytest.mark.parametrize("loss", ["object", "function", "ignored ids"])
def test_masked_positions_do_not_count(loss, weighted):
    ids = np.array([[3, 1, 0, 0], [2, 0, 0, 0], [1, 1, 2, 3]])
    model = keras.Sequential(
        [keras.Input((4,)), layers.Embedding(5, 3, mask_zero=True), layers.Dense(2)]
    )
    y = RNG.integers(0, 2, size=(3, 4))
    given = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    if loss == "function":

        def given(t, p):
            return keras.losses.sparse_categorical_crossentropy(t, p, from_logits=True)

    if loss == "ignored ids":
        y[0, 1] = -1
        given = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    weights = {
        "none": None,
        "samples": np.array([[1.0], [2.0], [0.5]], "float32"),
        "positions": RNG.uniform(0.5, 2.0, size=(3, 4)).astype("float32"),
    }[weighted]
    model.compile("sgd", given)
    outputs = model(ids)
    # At every position: Keras on torch multiplies weights of (batch, 1) in place.
    wide = None if weights is None else weights * np.ones((3, 4), "float32")
    expected = model.compute_loss(ids, y, outputs, wide)
    losses, found = Forward(model).weighted_losses(Batch(ids, y, weights), outputs)
    np.testing.assert_allclose(array(ops.mean(losses * found)), array(expected), rtol=1e-5)
    # More padding changes nothing.
    padded = np.pad(ids, ((0, 0), (0, 3)))
    more = model(padded)
    per_sample = Forward(model).sample_losses(np.pad(y, ((0, 0), (0, 3))), more)
    np.testing.assert_allclose(
        array(per_sample), array(Forward(model).sample_losses(y, outputs)), rtol=1e-5
    )


def test_a_sample_without_a_position_has_loss_and_weight_zero():
    model = keras.Sequential([keras.Input((2,)), layers.Embedding(3, 2, mask_zero=True)])
    model.compile("sgd", "mse")
    ids = np.array([[0, 0], [1, 2]])
    outputs = model(ids)
    y = np.ones((2, 2, 2), "float32")
    losses, weights = Forward(model).weighted_losses(Batch(ids, y), outputs)
    assert array(losses)[0] == 0 and array(weights)[0] == 0 and array(weights)[1] == 2


def test_a_prediction_that_is_not_a_number_counts_only_where_it_has_weight():
    outputs = ops.convert_to_tensor(np.array([[np.nan], [2.0]], "float32"))
    model = keras.Sequential([keras.Input((1,)), layers.Identity()])
    model.compile("sgd", "mse")
    y = np.zeros((2, 1), "float32")
    batch = Batch(None, y, np.array([0.0, 1.0], "float32"))
    losses, weights = Forward(model).weighted_losses(batch, outputs)
    np.testing.assert_allclose(array(losses * weights), [0.0, 4.0])
    assert np.isnan(array(Forward(model).sample_losses(y, outputs))[0])


def test_weights_of_another_shape_are_an_error():
    model = keras.Sequential([keras.Input((2,)), layers.Identity()])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="sample weights per sample or per position"):
        Forward(model).weighted_losses(
            Batch(None, np.zeros((3, 2)), np.ones((3, 2), "float32")), ops.zeros((3, 2))
        )
