"""layers.ObservationDropout: observed entries are hidden, in training only, and nothing else changes."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_regularize.layers import ObservationDropout
from keras_regularize.testing._common import values_and_gradients
from tests.helpers import array, normal


@pytest.mark.everywhere
@pytest.mark.parametrize("dtype", ["bool", "int32", "float32"])
def test_values_and_mask_of_given_draws(dtype):
    rng = np.random.default_rng(0)
    values, drawn = normal(4, 3, 2), rng.uniform(size=(4, 3, 2)).astype("float32")
    mask, rate = (rng.uniform(size=values.shape) < 0.7).astype(dtype), [0.6, 0.2]
    layer = ObservationDropout(rate)
    given = [ops.convert_to_tensor(a) for a in (mask, drawn)]
    run = values_and_gradients(lambda x: layer._hidden(x, *given)[0])
    value, gradient = map(array, run(values))
    shown = layer._hidden(ops.convert_to_tensor(values), *given)[1]
    assert keras.backend.standardize_dtype(shown.dtype) == dtype
    hidden = 0
    for i in np.ndindex(values.shape):
        gone = mask[i] and drawn[i] < rate[i[-1]]
        hidden += gone
        assert value[i] == (0.0 if gone else values[i]) and gradient[i] == (not gone)
        assert array(shown)[i] == (0 if gone else mask[i])
    assert 0 < hidden < mask.sum()


def test_share_of_what_is_observed():
    values = np.ones((500, 4, 2), "float32")
    mask = np.broadcast_to(np.arange(4)[:, None] < 3, values.shape)
    seen, shown = map(array, ObservationDropout([0.4, 0.1], seed=0)([values, mask], training=True))
    share = 1 - shown[:, :3].mean(axis=(0, 1))
    assert np.abs(share - [0.4, 0.1]).max() < 4 * np.sqrt(0.24 / 1500)
    np.testing.assert_array_equal(seen[:, :3], shown[:, :3])  # Not rescaled.
    assert (seen[:, 3] == 1).all() and not shown[:, 3].any()


def test_missing_values_stay_even_if_they_are_no_numbers():
    values = np.array([[np.nan, 1.0], [2.0, np.nan]], "float32")
    mask = ~np.isnan(values)
    layer = ObservationDropout(0.9, seed=0)
    seen, shown = map(array, layer((values, mask), training=True))
    np.testing.assert_array_equal(np.isnan(seen), ~mask)
    assert (seen[mask] == np.where(shown[mask], values[mask], 0)).all()
    for before, after in zip((values, mask), layer([values, mask])):
        np.testing.assert_array_equal(array(after), before)


@pytest.mark.everywhere
def test_in_a_model_that_is_trained_saved_and_loaded(tmp_path):
    values, mask = keras.Input((None, 3)), keras.Input((None, 3), dtype="bool")
    seen, shown = ObservationDropout([0.5, 0.5, 0.1], seed=0)([values, mask])
    x = keras.layers.Concatenate()([seen, keras.ops.cast(shown, "float32")])
    x = keras.layers.GlobalAveragePooling1D()(x)
    model = keras.Model([values, mask], keras.layers.Dense(1)(x))
    model.compile("sgd", "mse")
    data = [normal(5, 4, 3), normal(5, 4, 3, seed=1) > 0]
    model.fit(data, np.ones(5), batch_size=3, verbose=0)
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        restored.predict(data, verbose=0), model.predict(data, verbose=0), rtol=1e-6
    )


def test_masks_of_time_steps_pass():
    x = normal(2, 4, 3)
    x[0, 2:] = 0
    masked = keras.layers.Masking()(x)
    layer = ObservationDropout(0.3)
    for inputs in ([masked, ops.ones((2, 4, 3))], [masked, keras.layers.Masking()(x)]):
        given, none = layer.compute_mask(inputs, [masked._keras_mask, None])
        np.testing.assert_array_equal(array(given), (x != 0).any(axis=-1))
        assert none is None
    assert layer.supports_masking


@pytest.mark.parametrize(
    "rate, inputs, message",
    [
        (1.0, None, "`rate` must be a number at least 0 and below 1"),
        ([], None, "`rate` must not be empty"),
        (0.4, np.ones((2, 3), "float32"), "needs a list \\[values, mask\\]"),
        (0.4, [np.ones((2, 3)), np.ones((2, 1))], "of the same shape"),
        (0.4, [np.ones((2, 3), "int32"), np.ones((2, 3))], "floating dtype"),
        ([0.4, 0.1], [np.ones((2, 3)), np.ones((2, 3))], "one per feature"),
    ],
)
def test_bad_arguments_and_inputs(rate, inputs, message):
    with pytest.raises(ValueError, match=message):
        ObservationDropout(rate)(inputs)
