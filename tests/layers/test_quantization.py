"""Quantizers: levels, gradients at the ends, ranges from data, and networks trained through them."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_regularize as kr
from keras_regularize import autodiff
from keras_regularize.layers import (
    ElasticQuantized,
    FakeQuantize,
    LearnedClipQuantizer,
    QuantizedInputs,
    QuantizedWeights,
    calibrate_quantizers,
    fake_quantize,
    learned_clip_quantize,
)
from keras_regularize.layers.quantization._rounding import fitted_range
from keras_regularize.testing._common import fused, to_numpy
from tests.helpers import normal


def run(function, *arguments):
    """Value, the value of the value, and gradients of the sum with respect to all arguments."""

    def both(*arguments):
        def total(arguments):
            value = function(*arguments)
            return ops.sum(ops.cast(value, "float32")), value

        gradients, value = autodiff.grad(total, has_aux=True)(list(arguments))
        again = function(value, *arguments[1:])
        return [ops.cast(ops.stop_gradient(a), "float32") for a in (value, again, *gradients)]

    return [to_numpy(a) for a in fused(both)(*arguments)]


def test_levels_and_gradients_at_the_ends():
    # Of three bits: levels -4 … 3 around the offset, 0.5 apart.
    x = np.array([-2.5, -2.25, -1.0, 0.0, 1.0, 1.25, 1.5, 1e4, -1e4], "float32") - 0.25
    value, again, of_x, of_scale, of_offset = run(
        lambda x, s, z: fake_quantize(x, s, z, bits=3), x, np.float32(0.5), np.float32(-0.25)
    )
    # Halves go to the even level; an end belongs to the inside up to the 1e-6 of the scale.
    expected = np.array([-2.0, -2.0, -1.0, 0.0, 1.0, 1.0, 1.5, 1.5, -2.0]) - 0.25
    np.testing.assert_allclose(value, expected, rtol=1e-4)
    np.testing.assert_allclose(again, value, rtol=1e-6)
    np.testing.assert_array_equal(of_x, [0, 0, 1, 1, 1, 1, 1, 0, 0])
    np.testing.assert_allclose(of_offset, 4.0)
    np.testing.assert_allclose(of_scale, -4 - 4 + 3 - 4 - 0.5, atol=1e-3)


def test_ends_of_the_learned_clip():
    x = np.array([-2.0, -1.0, -0.4, 0.7, 2.0, 3.0, 1e4], "float32")
    value, again, of_x, of_lower, of_upper = run(
        lambda x, low, up: learned_clip_quantize(x, low, up, bits=2),
        x,
        np.float32(-1),
        np.float32(2),
    )
    np.testing.assert_allclose(value, [-1, -1, 0, 1, 2, 2, 2], atol=1e-6)
    np.testing.assert_allclose(again, value, atol=1e-6)
    np.testing.assert_array_equal(of_x, [0, 0, 1, 1, 0, 0, 0])
    between = (0.4 + 0.3) / 3  # (level - position) / 3 of the two inside.
    np.testing.assert_allclose([of_lower, of_upper], [2 - between, 3 + between], rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_extremes_are_finite(dtype):
    x = np.array([0.0, 6e4, -6e4, 1e-6], "float32")

    def quantized(x, scale, ends):
        x = ops.cast(x, dtype)
        first = fake_quantize(x, scale, bits=4)
        second = learned_clip_quantize(x, ends[0], ends[1], bits=4)
        assert first.dtype == second.dtype == x.dtype
        return ops.cast(first, "float32") + ops.cast(second, "float32")

    # A scale of 0, and ends that have crossed.
    for result in run(quantized, x, np.float32(0.0), np.array([1.0, -1.0], "float32")):
        assert np.isfinite(result).all()


def test_ranges_are_those_of_a_loop():
    x = normal(50, 3).astype("float64") * [0.1, 1.0, 30.0] + [0.0, 2.0, 5.0]
    scales, offsets, low = fitted_range(x, 3, symmetric=False, axis=(1,))
    assert low == -4 and scales.shape == offsets.shape == (1, 3)
    for column, scale, offset in zip(x.T, scales[0], offsets[0]):
        errors = []
        for step in range(80):
            largest = max(column.max(), 0.0) * (1 - 0.01 * step)
            smallest = min(column.min(), 0.0) * (1 - 0.01 * step)
            s = (largest - smallest) / 7
            q = np.clip(np.round((column - smallest) / s), 0, 7) * s + smallest
            errors.append((np.mean(np.abs(column - q) ** 2.4), s, smallest + 4 * s))
        np.testing.assert_allclose([scale, offset], min(errors)[1:], rtol=1e-5, atol=1e-7)
    # Without negative values: levels 0 … 7, twice as fine.
    scale, offset, low = fitted_range(np.abs(x), 3, symmetric=True)
    assert low == 0 and offset == 0 and scale <= np.abs(x).max() / 7
    signed, _, low = fitted_range(np.abs(x), 3, symmetric=True, signed=True)
    assert low == -4
    for nothing in (np.zeros((4, 2)), np.zeros((0, 2))):
        assert np.isfinite(fitted_range(nothing, 3, False)[0]).all()


def network():
    return keras.Sequential(
        [
            keras.Input((6,)),
            QuantizedInputs(QuantizedWeights(layers.Dense(16, "relu"), 4, False, False), bits=4),
            FakeQuantize(4),
            QuantizedWeights(layers.Dense(16), bits=3),
            FakeQuantize(4, symmetric=False, per_channel=True),
            layers.Dense(2),
        ]
    )


def test_networks_are_calibrated_trained_saved_and_folded(tmp_path):
    x = normal(128, 6) * 3
    y = np.tanh(x[:, :2] / 3) + 0.3 * x[:, 2:4]
    model = network()
    inputs, relu, dense, last = model.layers[:4]
    first = np.unique(to_numpy(relu.low))
    calibrate_quantizers(model, x)
    # Behind the rectifier there are no negative levels.
    assert first == [-8] and to_numpy(relu.low) == 0 and to_numpy(last.low) == -8
    assert to_numpy(last.scale).shape == to_numpy(last.offset).shape == (16,)
    ends = [float(to_numpy(v)) for v in (inputs.quantizer.lower, inputs.quantizer.upper)]
    assert x.min() * 1.01 < ends[0] < x.min() / 3 and x.max() / 3 < ends[1] < x.max() * 1.01
    trained = {variable.path for variable in model.trainable_variables}
    assert not any("low" in path.split("/")[-1].split("_") for path in trained)
    before = {v.path: to_numpy(v) for v in model.trainable_variables}
    model.compile(keras.optimizers.Adam(0.01), "mse")
    losses = model.fit(x, y, batch_size=128, epochs=60, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    for variable in model.trainable_variables:
        assert (to_numpy(variable) != before[variable.path]).any(), variable.path
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        restored.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6
    )
    kernel = to_numpy(dense.fold().kernel)
    assert max(len(np.unique(column)) for column in kernel.T) <= 8
    assert len(np.unique(kernel)) > 8


@pytest.mark.parametrize("per_channel", [True, False])
def test_the_gradient_of_a_step_is_scaled(per_channel):
    wrapper = QuantizedWeights(layers.Conv1D(3, 2), 4, per_channel=per_channel)
    x = normal(2, 5, 4)
    wrapper(x)
    kernel, bias = wrapper.layer.weights
    scale = wrapper.trainable_variables[0]
    assert tuple(scale.shape) == ((1, 1, 3) if per_channel else (1, 1, 1))

    def total(scale_value):
        with keras.StatelessScope([(scale, scale_value)]):
            return ops.sum(wrapper(x))

    def expected(scale_value):
        rounded = fake_quantize(kernel.value, scale_value, bits=4)
        return ops.sum(ops.conv(x, rounded, 1, "valid"))

    factor = 2 / np.sqrt(7 * 24 / 4) if per_channel else 1 / np.sqrt(7 * 24)
    gradients = [to_numpy(autodiff.grad(f)(scale.value)) for f in (total, expected)]
    np.testing.assert_allclose(gradients[0], factor * gradients[1], rtol=1e-3, atol=1e-4)
    assert np.abs(gradients[1]).max() > 1e-3


def test_eight_bits_are_close_to_the_plain_layer_and_fewer_are_further():
    layer = layers.Conv2D(4, 3)
    x = normal(2, 6, 6, 3)
    plain = to_numpy(layer(x))
    errors = []
    for bits in (8, 6, 4, 2):
        wrapper = QuantizedWeights(layer, bits)
        errors.append(np.abs(to_numpy(wrapper(x)) - plain).max() / np.abs(plain).max())
    assert errors[0] < 0.02 and errors == sorted(errors)
    # Weights that were set later are fitted by a calibration.
    layer.set_weights([100 * w for w in layer.get_weights()])
    wrapper = QuantizedWeights(layers.Conv2D(4, 3), 8)
    wrapper(x)
    wrapper.layer.set_weights(layer.get_weights())
    calibrate_quantizers(wrapper, x)
    np.testing.assert_allclose(to_numpy(wrapper(x)), 100 * plain, rtol=0.05, atol=2.0)


def test_masks_pass_quantized_inputs():
    tokens = np.array([[1, 2, 0, 0]])
    embedded = layers.Embedding(4, 3, mask_zero=True)(tokens)
    wrapper = QuantizedInputs(layers.GRU(2), bits=8)
    out = to_numpy(wrapper(embedded))
    np.testing.assert_allclose(out, to_numpy(wrapper(embedded[:, :2])), rtol=1e-5, atol=1e-6)


def test_bad_arguments():
    for cls in (FakeQuantize, lambda bits: QuantizedWeights(layers.Dense(1), bits)):
        with pytest.raises(ValueError, match="`bits` must be an integer of at least 2"):
            cls(bits=1)
        with pytest.raises(
            ValueError, match="`bits` must be an integer of at least 2 and at most 16"
        ):
            cls(bits=17)
    with pytest.raises(ValueError, match="`bits` must be an integer of at least 1"):
        LearnedClipQuantizer(bits=0)
    with pytest.raises(ValueError, match="`upper` must be a number above 1.0. Received: upper=1.0"):
        LearnedClipQuantizer(lower=1.0, upper=1.0)
    with pytest.raises(ValueError, match="wraps a Keras layer"):
        QuantizedInputs("dense")
    with pytest.raises(ValueError, match="needs a layer with a kernel"):
        QuantizedWeights(layers.BatchNormalization())(normal(2, 3))
    with pytest.raises(ValueError, match="`bits` must be an integer of at least 2"):
        fake_quantize(normal(2), 1.0, bits=1.5)
    with pytest.raises(ValueError, match="must be a Keras model or layer"):
        kr.layers.calibrate_quantizers(None, normal(2, 3))


def test_integers_are_quantized_to_floats():
    x = np.array([0, 1, 9])
    found = kr.layers.fake_quantize(x, scale=1.5, bits=3)
    np.testing.assert_allclose(ops.convert_to_numpy(found), [0.0, 1.5, 4.5], rtol=1e-5)
    found = kr.layers.learned_clip_quantize(x, lower=0.0, upper=1.5, bits=1)
    np.testing.assert_allclose(ops.convert_to_numpy(found), [0.0, 1.5, 1.5], rtol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_nan_is_handed_on_and_calibration_refuses_it(value):
    x = normal(8, 4)
    x[3, 1] = value
    quantized = [fake_quantize(x, 0.5, bits=3), learned_clip_quantize(x, -1.0, 1.0, bits=2)]
    quantized += [FakeQuantize(4)(x), LearnedClipQuantizer(4)(x)]
    for result in map(to_numpy, quantized):
        assert np.isnan(result[3, 1]) == np.isnan(value)
        assert np.isfinite(np.delete(result.ravel(), 13)).all()
    for layer in (
        FakeQuantize(4),
        FakeQuantize(4, symmetric=False, per_channel=True),
        LearnedClipQuantizer(4),
        QuantizedInputs(layers.Dense(2)),
        ElasticQuantized(layers.Dense(2), bits=(2, 4)),
    ):
        layer(normal(8, 4))
        with pytest.raises(
            ValueError, match="Received an array with 1 NaN or infinite entries of 32"
        ):
            calibrate_quantizers(layer, x)
    for ends in ((np.nan, 1.0), (-1.0, np.nan)):
        ends = [np.float32(end) for end in ends]
        assert np.isnan(to_numpy(learned_clip_quantize(normal(5), *ends))).all()
    assert np.isnan(to_numpy(fake_quantize(normal(5), np.float32(np.nan)))).all()
    # A weight that is NaN is one for the network, too.
    wrapper = QuantizedWeights(layers.Dense(2), 4)
    wrapper(x)
    kernel = to_numpy(wrapper.layer.kernel)
    kernel[0, 0] = np.nan
    wrapper.layer.kernel.assign(kernel)
    assert np.isnan(to_numpy(wrapper(normal(3, 4)))[:, 0]).all()


@pytest.mark.parametrize(
    "make", [LearnedClipQuantizer, lambda b: QuantizedInputs(layers.Dense(2), b)]
)
@pytest.mark.parametrize("x", [normal(64, 4), np.abs(normal(64, 4)), np.zeros((4, 4), "float32")])
def test_one_bit_is_calibrated(make, x):
    layer = make(1)
    layer(x)
    with np.errstate(all="raise"):
        calibrate_quantizers(layer, x)
    quantizer = getattr(layer, "quantizer", layer)
    ends = [float(to_numpy(end)) for end in (quantizer.lower, quantizer.upper)]
    assert ends[0] < ends[1] and np.isfinite(ends).all()
    rounded = to_numpy(quantizer(x))
    assert len(np.unique(rounded)) <= 2
    # No worse than the full range.
    full = [min(x.min(), 0.0), max(x.max(), 1e-6)]
    plain = to_numpy(learned_clip_quantize(x, *map(np.float32, full), bits=1))
    assert np.mean(np.abs(x - rounded) ** 2.4) <= np.mean(np.abs(x - plain) ** 2.4) + 1e-6


@pytest.mark.parametrize("make", [QuantizedInputs, ElasticQuantized])
def test_layers_of_several_inputs_and_of_ids_are_refused(make):
    with pytest.raises(
        ValueError, match=r"takes one floating tensor.*several: \['query', 'value'\]"
    ):
        make(layers.MultiHeadAttention(2, 3))
    with pytest.raises(ValueError, match="takes ids, which cannot be quantized"):
        make(layers.Embedding(5, 3))
    with pytest.raises(ValueError, match="takes ids"):
        make(QuantizedWeights(layers.Embedding(5, 3)))


def test_a_list_of_inputs_is_refused():
    x = normal(2, 3, 4)
    with pytest.raises(
        ValueError, match="quantizes one floating tensor. Received inputs of 2 parts"
    ):
        QuantizedInputs(layers.Attention())([x, x])


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype float64")  # JAX without 64 bits.
def test_float64_is_quantized_in_float64():
    keras.config.set_dtype_policy("float64")
    x = np.random.default_rng(0).normal(size=(16, 4))
    for layer in (FakeQuantize(16), LearnedClipQuantizer(16)):
        layer(x)
        calibrate_quantizers(layer, x)
        values = to_numpy(layer(x))
        again = to_numpy(layer(values))
        # Levels are hit as closely as the dtype can: JAX computes float64 in float32 unless told otherwise.
        tolerance = 1e-12 if values.dtype == "float64" else 1e-6
        np.testing.assert_allclose(again, values, rtol=0, atol=tolerance)


@pytest.mark.parametrize("wrap", [QuantizedWeights, lambda layer: ElasticQuantized(layer, (2, 4))])
def test_unbuilt_models_are_built_by_fit(wrap):
    """The steps fit the kernel also where the model is built while the step is traced."""
    dense = layers.Dense(3)
    model = keras.Sequential([wrap(dense)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    x = normal(8, 4)
    loss = model.fit(x, x[:, :3], batch_size=8, verbose=0).history["loss"][0]
    assert loss == pytest.approx(model.evaluate(x, x[:, :3], verbose=0), rel=1e-5)
    scale = to_numpy(next(v for v in model.weights if v.name.endswith("scale")))
    assert np.all(scale > 0) and len(np.unique(scale)) > 2
