import keras
import numpy as np
import pytest
from keras import ops

from keras_regularize import autodiff
from keras_regularize.labels import label_rows, pick, split_labels
from keras_regularize.scores import label_log_probability


def numpy_of(x):
    return ops.convert_to_numpy(x)


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32", "uint8"])
@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_ids_are_told_by_their_rank(shape, dtype):
    ids, rows = split_labels(np.array([2, 0, 3]).reshape(shape).astype(dtype), np.zeros((3, 4)))
    assert rows is None
    assert keras.backend.standardize_dtype(ids.dtype) == "int32"
    np.testing.assert_array_equal(numpy_of(ids), [2, 0, 3])


@pytest.mark.parametrize("dtype", ["float32", "int32", "bool"])
def test_rows_are_told_by_their_last_axis(dtype):
    given = np.eye(4)[[2, 0, 3]].astype(dtype)
    ids, rows = split_labels(given, np.zeros((3, 4), "float32"))
    assert ids is None
    assert keras.backend.standardize_dtype(rows.dtype) == "float32"
    np.testing.assert_array_equal(numpy_of(rows), given)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1)])
def test_ids_per_position(shape):
    ids, _ = split_labels(np.arange(6).reshape(shape), np.zeros((2, 3, 7)))
    np.testing.assert_array_equal(numpy_of(ids), np.arange(6).reshape(2, 3))


def test_as_many_samples_as_classes_is_no_ambiguity():
    ids, rows = split_labels(np.array([0, 1, 2]), np.zeros((3, 3)))
    assert rows is None
    _, rows = split_labels(np.eye(3), np.zeros((3, 3)))
    assert rows is not None


def test_a_column_of_labels_for_a_column_of_predictions_is_ids():
    ids, _ = split_labels(np.array([[0.0], [1.0]]), np.zeros((2, 1)))
    np.testing.assert_array_equal(numpy_of(ids), [0, 1])


def test_unknown_batch_size():
    y_pred = keras.KerasTensor((None, 4))

    class Probe(keras.layers.Layer):
        def call(self, y_true, y_pred):
            return label_rows(y_true, y_pred)

    for y_true in (keras.KerasTensor((None,)), keras.KerasTensor((None, 1)), y_pred):
        assert tuple(Probe()(y_true, y_pred).shape) == (None, 4)


@pytest.mark.parametrize(
    "y_true, y_pred",
    [
        ((4,), (3, 5)),  # another batch size
        ((3, 4), (3, 5)),  # another number of classes
        ((3, 3), (3, 5)),  # never broadcast to (batch, batch)
        ((3, 5, 1), (3, 5)),
        ((), (3, 5)),
        ((2, 3), (2, 4, 5)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(y_true, y_pred):
    with pytest.raises(ValueError, match="Expected class labels as integer ids of shape"):
        split_labels(np.zeros(y_true), np.zeros(y_pred))


def test_predictions_need_a_class_axis():
    with pytest.raises(ValueError, match="Class predictions need a known last axis"):
        split_labels(np.zeros(3), np.zeros(3))


def test_rows_from_ids_and_from_rows():
    expected = np.eye(4)[[2, 0]]
    y_pred = np.zeros((2, 4))
    np.testing.assert_array_equal(numpy_of(label_rows(np.array([2, 0]), y_pred)), expected)
    np.testing.assert_array_equal(numpy_of(label_rows(expected, y_pred)), expected)


def test_pick_takes_the_entry_of_each_row():
    values = np.arange(24.0).reshape(2, 3, 4)
    ids = np.array([[0, 1, 2], [3, 2, 1]])
    expected = [[values[i, j, ids[i, j]] for j in range(3)] for i in range(2)]
    np.testing.assert_array_equal(
        numpy_of(pick(ops.convert_to_tensor(values), ops.convert_to_tensor(ids))), expected
    )


@pytest.mark.parametrize("from_logits", [True, False])
def test_log_probability_of_ids_and_rows(from_logits):
    z = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    outputs = ops.convert_to_tensor(z if from_logits else p)
    ids = np.array([0, 3, 2, 1, 1])
    expected = np.log(p)[np.arange(5), ids]
    rows = np.eye(4, dtype="float32")[ids]
    for labels in (ids, ids[:, None], rows):
        got = numpy_of(label_log_probability(labels, outputs, from_logits))
        np.testing.assert_allclose(got, expected, rtol=1e-5)
    soft = np.full((5, 4), 0.25, "float32")
    np.testing.assert_allclose(
        numpy_of(label_log_probability(soft, outputs, from_logits)),
        np.log(p).mean(-1),
        rtol=1e-5,
    )


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("kind", ["ids", "rows"])
def test_saturated_logits_have_exact_values_and_gradients(kind, dtype):
    # 1e4 is not a bfloat16 number; what it is rounded to is what counts.
    z = ops.cast(np.array([[1e4, -1e4, 0], [1e4, 1e4, -1e4], [-1e4, 0, 0]], "float32"), dtype)
    ids = np.array([1, 0, 1])
    labels = ids if kind == "ids" else np.eye(3, dtype="float32")[ids]
    top = float(ops.cast(z, "float32")[0, 0])
    got = numpy_of(label_log_probability(labels, z, True))
    np.testing.assert_allclose(got, [-2 * top, -np.log(2), -np.log(2)], rtol=1e-5)
    g = autodiff.grad(lambda z: ops.sum(label_log_probability(labels, z, True)))(z)
    np.testing.assert_allclose(
        numpy_of(ops.cast(g, "float32")),
        [[-1, 1, 0], [0.5, -0.5, 0], [0, 0.5, -0.5]],
        atol=1e-5,
    )
