"""layers.Cutout: holes in training only, fresh at every step, uniform over all pixels."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_regularize as kr
from keras_regularize.layers import Cutout


def run(layer, images, training=True):
    return ops.convert_to_numpy(layer(images, training=training))


def test_identity_at_inference():
    images = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype("float32")
    np.testing.assert_array_equal(run(Cutout(4), images, training=False), images)
    np.testing.assert_array_equal(ops.convert_to_numpy(Cutout(4)(images)), images)
    model = keras.Sequential([keras.Input((6, 6, 3)), Cutout(4)])
    np.testing.assert_array_equal(model.predict(images, verbose=0), images)


@pytest.mark.parametrize("length", [0, 1])
def test_lengths_that_cut_nothing(length):
    images = np.ones((3, 4, 4, 1), "float32")
    np.testing.assert_array_equal(run(Cutout(length), images), images)


def test_every_image_gets_one_square_around_a_centre():
    out = run(Cutout(4, seed=1), np.ones((200, 7, 9, 2), "float32"))
    assert (out[..., 0] == out[..., 1]).all()
    seen = set()
    for image in out[..., 0]:
        rows, columns = np.where((image == 0).any(1))[0], np.where((image == 0).any(0))[0]
        assert (image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == 0).all()
        assert (image == 0).sum() == len(rows) * len(columns)
        assert 2 <= len(rows) <= 4 and 2 <= len(columns) <= 4
        seen.add((rows[0], rows[-1], columns[0], columns[-1]))
    assert len(seen) > 40  # of 63 centres: 43 would be few for 200 uniform draws.


def test_centres_are_uniform_over_all_pixels():
    # A hole of length 2 covers the pixel left above the centre: its far corner names the centre.
    out = run(Cutout(2, seed=2), np.ones((4000, 3, 4, 1), "float32"))[..., 0]
    counts = np.zeros((3, 4))
    for image in out:
        rows, columns = np.where((image == 0).any(1))[0], np.where((image == 0).any(0))[0]
        counts[rows[-1], columns[-1]] += 1
    expected = 4000 / 12
    assert ((counts - expected) ** 2 / expected).sum() < 31.3  # chi-squared, 11 degrees, p = 0.001.


def test_several_holes_and_their_filling():
    images = np.ones((50, 12, 12, 1), "float32")
    one, three = run(Cutout(4, 1, -3.0, seed=0), images), run(Cutout(4, 3, -3.0, seed=0), images)
    assert set(np.unique(three)) == {-3.0, 1.0}
    assert (three == -3).sum() > 2 * (one == -3).sum()


def test_a_seed_replays_and_calls_differ():
    images = np.ones((8, 10, 10, 1), "float32")
    a, b = Cutout(4, seed=3), Cutout(4, seed=3)
    first = run(a, images)
    np.testing.assert_array_equal(first, run(b, images))
    assert (first != run(a, images)).any()


def test_fresh_holes_at_every_step_of_fit():
    class Recorder(keras.layers.Layer):
        def build(self, shape):
            self.sums = self.add_weight((4,), "zeros", trainable=False)
            self.step = self.add_weight((), "zeros", dtype="int32", trainable=False)

        def call(self, x):
            now = ops.cast(ops.arange(4) == self.step, "float32")
            pattern = ops.sum(x * ops.reshape(ops.arange(100, dtype="float32"), (1, 10, 10, 1)))
            self.sums.assign(self.sums + now * pattern)
            self.step.assign(self.step + 1)
            return ops.mean(x, axis=(1, 2))

    recorder = Recorder()
    model = keras.Sequential([keras.Input((10, 10, 1)), Cutout(4), recorder, keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(np.ones((8, 10, 10, 1)), np.ones((8, 1)), batch_size=2, epochs=1, verbose=0)
    sums = ops.convert_to_numpy(recorder.sums.value)
    assert len(set(sums.tolist())) == 4 and (sums < 2 * np.arange(100).sum()).all()


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_integer_images_keep_their_dtype(dtype):
    out = run(Cutout(4, seed=0), np.full((2, 6, 6, 3), 200, dtype))
    assert out.dtype == dtype and set(np.unique(out)) == {0, 200}
    spec = Cutout(4)(keras.KerasTensor((None, 6, 6, 3), dtype=dtype))
    assert spec.dtype == dtype and spec.shape == (None, 6, 6, 3)


def test_unknown_sizes_and_channels_first():
    inputs = keras.Input((3, None, None))
    model = keras.Model(inputs, Cutout(4, data_format="channels_first", seed=0)(inputs))
    out = ops.convert_to_numpy(model(np.ones((4, 3, 8, 6), "float32"), training=True))
    zeros = (out == 0).sum(axis=(2, 3))
    assert (zeros == zeros[:, :1]).all() and (zeros >= 4).all() and (zeros <= 16).all()


def test_one_image_and_small_batches():
    assert (run(Cutout(4), np.ones((6, 6, 3), "float32")) == 0).any()
    assert (run(Cutout(4), np.ones((1, 6, 6, 3), "float32")) == 0).any()
    assert run(Cutout(4), np.ones((0, 6, 6, 3), "float32")).shape == (0, 6, 6, 3)


def test_mixed_precision():
    out = Cutout(4, dtype="mixed_float16")(np.ones((2, 6, 6, 1), "float32"), training=True)
    assert keras.backend.standardize_dtype(out.dtype) == "float16"


def test_saved_and_loaded(tmp_path):
    layer = Cutout(3, 2, 0.5, seed=7, data_format="channels_last", name="holes")
    model = keras.Sequential([keras.Input((6, 6, 1)), layer])
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras").layers[0]
    assert restored.get_config() == layer.get_config()
    assert {k: layer.get_config()[k] for k in ("length", "num_holes", "fill_value", "seed")} == {
        "length": 3,
        "num_holes": 2,
        "fill_value": 0.5,
        "seed": 7,
    }


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"length": -1}, "`length` must be an integer of at least 0"),
        ({"num_holes": 0}, "`num_holes` must be an integer of at least 1"),
        ({"fill_value": "noise"}, "`fill_value` must be a number"),
        ({"seed": 0.5}, "`seed` must be an integer"),
        ({"data_format": "last"}, "`data_format` must be one of"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Cutout(**arguments)


def test_bad_rank():
    with pytest.raises(ValueError, match="needs images"):
        Cutout()(np.ones((2, 3), "float32"))


@pytest.mark.everywhere
@pytest.mark.parametrize("kind", ["layer", "function"])
def test_a_tf_data_pipeline_needs_the_tensorflow_backend(kind):
    """It runs there, and says so elsewhere."""
    tf = pytest.importorskip("tensorflow")
    layer = kr.layers.Cutout(4)  # Made outside: a pipeline's function cannot make variables.
    call = {
        "layer": lambda images: layer(images, training=True),
        "function": lambda images: kr.ops.cutout(images, np.full((4, 1, 2), 4), 4),
    }[kind]
    data = tf.data.Dataset.from_tensor_slices(np.ones((8, 8, 8, 3), "float32")).batch(4, True)
    if keras.backend.backend() == "tensorflow":
        for images in data.map(call):
            assert images.shape == (4, 8, 8, 3) and float(tf.reduce_min(images)) == 0.0
    else:
        with pytest.raises(ValueError, match="`tf.data` pipeline on the TensorFlow backend only"):
            data.map(call)
