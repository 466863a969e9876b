"""layers.DropPath: whole samples are dropped, and what all layers of noise share."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_regularize as kr
from keras_regularize.layers import DropPath
from keras_regularize.testing._common import float_width, values_and_gradients
from tests.helpers import array, normal

LAYERS = {
    "drop_path": lambda **options: kr.layers.DropPath(0.4, **options),
    "drop_block": lambda **options: kr.layers.DropBlock(2, 0.4, **options),
    "shake_drop": lambda **options: kr.layers.ShakeDrop(survival_probability=0.0, **options),
}
all_layers = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


@pytest.mark.everywhere
def test_value_and_gradient_of_given_gates():
    x, kept = normal(5, 3, 2), np.array([1, 0, 0, 1, 1], bool)
    layer = DropPath(0.2)
    gates = ops.convert_to_tensor(kept[:, None, None])
    value, gradient = map(array, values_and_gradients(lambda x: layer._gated(x, gates))(x))
    for i in range(5):
        factor = 1 / 0.8 if kept[i] else 0.0
        np.testing.assert_allclose(value[i], factor * x[i], rtol=1e-6)
        np.testing.assert_allclose(gradient[i], np.full((3, 2), factor), rtol=1e-6)


def test_share_of_samples_and_mean():
    out = array(DropPath(0.3, seed=0)(np.ones((4000, 2, 2), "float32"), training=True))
    assert (out == out[:, :1, :1]).all()  # A sample is there, or it is not.
    assert abs((out[:, 0, 0] == 0).mean() - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 4000)
    assert set(np.unique(out)) == {np.float32(0), np.float32(1) / np.float32(0.7)}


def test_it_is_the_dropout_of_keras_along_the_batch():
    """The same outputs occur, as often."""
    x = np.ones((4000, 2), "float32")
    theirs = array(keras.layers.Dropout(0.3, noise_shape=(None, 1), seed=1)(x, training=True))
    ours = array(DropPath(0.3, seed=1)(x, training=True))
    np.testing.assert_allclose(np.unique(ours), np.unique(theirs), rtol=1e-6)
    assert abs(ours.mean() - theirs.mean()) < 0.06


def test_what_overflows_in_a_dropped_branch_is_gone():
    x = np.full((64, 1), np.inf, "float32")
    assert set(np.unique(array(DropPath(0.5, seed=0)(x, training=True)))) == {0.0, np.inf}
    np.testing.assert_array_equal(array(DropPath(0.0)(x, training=True)), x)


@all_layers
def test_a_seed_replays_and_calls_differ(make):
    x = normal(8, 6, 3)
    first, second = make(seed=3), make(seed=3)
    drawn = array(first(x, training=True))
    np.testing.assert_array_equal(drawn, array(second(x, training=True)))
    assert (drawn != array(first(x, training=True))).any()


@all_layers
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_dtypes_and_an_empty_batch(make, dtype):
    dtype = float_width() if dtype == "float64" else dtype
    layer, x = make(dtype=dtype, seed=0), normal(8, 6, 3)
    out = layer(x, training=True)
    assert keras.backend.standardize_dtype(out.dtype) == dtype
    assert np.isfinite(array(ops.cast(out, "float32"))).all()
    assert tuple(layer(x[:0], training=True).shape) == (0, 6, 3)
    assert tuple(layer(x[:1], training=True).shape) == (1, 6, 3)


@all_layers
def test_sizes_may_be_unknown_and_masks_pass(make):
    inputs = keras.Input((None, 3))
    outputs = make(seed=0)(keras.layers.Masking()(inputs))
    model = keras.Model(inputs, keras.layers.LSTM(2)(outputs))
    model.compile("sgd", "mse")
    x = normal(4, 6, 3)
    x[:, 4:] = 0
    model.fit(x, np.ones((4, 2)), batch_size=3, verbose=0)
    # Steps that are masked do not reach the recurrent layer.
    np.testing.assert_allclose(
        model.predict(x, verbose=0), model.predict(x[:, :4], verbose=0), rtol=1e-5, atol=1e-6
    )


@all_layers
def test_integers_are_refused(make):
    with pytest.raises(ValueError, match="needs inputs of a floating dtype"):
        make()(keras.Input((4, 3), dtype="int32"))
    with pytest.raises(ValueError, match="needs inputs of a floating dtype"):
        make()(np.ones((2, 4, 3), "int32"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"rate": 1.0}, "`rate` must be a number at least 0 and below 1"),
        ({"rate": -0.1}, "`rate` must be a number at least 0"),
        ({"rate": 0.1, "seed": 0.5}, "`seed` must be an integer"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        DropPath(**arguments)


def test_a_scalar_has_no_samples():
    with pytest.raises(ValueError, match="needs inputs \\(batch, …\\)"):
        DropPath(0.1)(np.float32(1.0), training=True)
