"""Layers of self-tuning networks: what they are without a response, and noise of a strength per sample."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_regularize as kr
from tests.helpers import array, normal

RESPONDING = {
    "dense": (
        lambda **o: kr.layers.SelfTuningDense(3, **o),
        lambda **o: keras.layers.Dense(3, **o),
    ),
    "conv": (
        lambda **o: kr.layers.SelfTuningConv2D(3, 2, 2, "same", **o),
        lambda **o: keras.layers.Conv2D(3, 2, 2, "same", **o),
    ),
}
SHAPES = {"dense": (4, 2, 5), "conv": (4, 3, 5, 2)}


IDS = np.array([[1, 0, 2], [2, 2, 1]])


def embedded(h, **options):
    layer = kr.layers.SelfTuningEmbedding(3, 4, **options)
    return layer, layer([IDS, h])


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("kind", RESPONDING)
def test_without_a_response_it_is_the_plain_layer(kind, use_bias):
    make, plain = RESPONDING[kind]
    options = {"use_bias": use_bias, "activation": "tanh"}
    layer, plain = make(hyper_initializer="zeros", **options), plain(**options)
    x, h = normal(*SHAPES[kind]), normal(4, 2)
    got = layer([x, h])
    plain.build(x.shape)
    plain.set_weights([array(w) for w in layer.weights[: 1 + use_bias]])
    np.testing.assert_allclose(array(got), array(plain(x)), atol=1e-6)
    assert len(layer.weights) == (5 if use_bias else 3)
    assert array(layer.hyper_kernel).shape == (2, 6 if use_bias else 3)


@pytest.mark.parametrize("kind", RESPONDING)
def test_affine_in_the_hyperparameters_and_row_by_row(kind):
    layer, x, h = RESPONDING[kind][0](), normal(*SHAPES[kind]), normal(4, 2)

    def run(h, x=x):
        return array(layer([x, h]))

    middle = 0.5 * (run(h) + run(-h))
    np.testing.assert_allclose(middle, run(0 * h), atol=1e-5)
    moved = h.copy()
    moved[1] += 1.0
    changed = np.abs(run(moved) - run(h)).reshape(4, -1).max(1) > 1e-6
    np.testing.assert_array_equal(changed, [False, True, False, False])
    # At every position of a sample the same.
    alone = run(h[:, :], np.ascontiguousarray(x[:, ::-1])) if kind == "dense" else None
    if alone is not None:
        np.testing.assert_allclose(alone[:, ::-1], run(h), atol=1e-6)


def test_weights_start_within_the_inverse_root_of_their_inputs():
    keras.utils.set_random_seed(0)
    layer = kr.layers.SelfTuningConv2D(50, 3)
    layer.build([(None, 9, 9, 4), (None, 3)])
    drawn = [array(w) for w in layer.weights]
    for w in drawn[:4]:
        assert 0.9 / 6 < np.abs(w).max() <= 1 / 6
    assert not np.allclose(drawn[0], drawn[2])
    assert 0.007 < drawn[4].std() < 0.013


def test_channels_first_is_channels_last_turned():
    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow has no such convolution on a CPU")
    first = kr.layers.SelfTuningConv2D(3, 2, data_format="channels_first")
    last = kr.layers.SelfTuningConv2D(3, 2)
    x, h = normal(2, 4, 5, 2), normal(2, 2)
    expected = array(last([x, h]))
    first.build([(None, 2, 4, 5), (None, 2)])
    first.set_weights(last.get_weights())
    got = array(first([np.moveaxis(x, -1, 1), h]))
    np.testing.assert_allclose(np.moveaxis(got, 1, -1), expected, atol=1e-5)


@pytest.mark.parametrize("kind", RESPONDING)
def test_what_is_refused_by_responding_layers(kind):
    make, x = RESPONDING[kind][0], np.ones(SHAPES[kind], "float32")
    for inputs, words in [
        (x, "a list"),
        ([x, x[0, 0, 0]], "a row for each sample"),
        ([x[:, 0, 0, 0] if kind == "conv" else x[0, 0], np.ones((4, 2))], "needs features"),
    ]:
        with pytest.raises(ValueError, match=words):
            make()(inputs)
    with pytest.raises(ValueError, match="at least 1"):
        kr.layers.SelfTuningDense(0)
    with pytest.raises(ValueError, match="`kernel_size`"):
        kr.layers.SelfTuningConv2D(2, (1, 2, 3))


def test_an_embedding_follows_the_hyperparameters_of_its_sample():
    h = normal(2, 3)
    layer, got = embedded(h)
    kernel, response, hyper = map(array, layer.weights)
    expected = kernel[IDS] + (h @ hyper)[:, None] * response[IDS]
    np.testing.assert_allclose(array(got), expected, rtol=1e-5, atol=1e-6)
    assert np.abs(kernel).max() <= 0.1 and not np.allclose(kernel, response)
    plain, got = embedded(h, hyper_initializer="zeros")
    np.testing.assert_array_equal(array(got), array(plain.kernel)[IDS])
    # Ids of any kind, one for each sample too, and more of them than half precision has numbers.
    np.testing.assert_array_equal(array(plain([IDS[:, 0].astype("float32"), h])), array(got)[:, 0])
    half = kr.layers.SelfTuningEmbedding(5000, 1, dtype="mixed_float16")
    outputs = half([np.array([[4099.0]], "float32"), np.zeros((1, 1))])
    assert keras.backend.standardize_dtype(outputs.dtype) == "float16"
    assert array(outputs)[0, 0, 0] == array(half.kernel)[4099, 0].astype("float16")


def test_an_embedding_hands_on_which_ids_are_padding():
    _, outputs = embedded(normal(2, 3), mask_zero=True)
    mask = array(ops.cast(outputs._keras_mask, "int32"))
    np.testing.assert_array_equal(mask, [[1, 0, 1], [1, 1, 1]])
    with pytest.raises(ValueError, match="a row for each sample"):
        embedded(normal(3))
    with pytest.raises(ValueError, match="`output_dim`"):
        kr.layers.SelfTuningEmbedding(3, 0)


@pytest.mark.parametrize("axis", [None, 1])
def test_dropout_at_a_rate_for_each_sample(axis):
    rates = np.array([[0.0, 0.0], [0.0, 0.5], [0.0, 0.9], [0.0, 1.0]], "float32")
    layer = kr.layers.HyperDropout(1, axis, seed=0)
    x = np.ones((4, 5, 2000), "float32")
    y = array(layer([x, rates], training=True))
    for row, rate in zip(y, rates[:, 1]):
        kept = 1 / (1 - rate) if rate < 1 else 0.0
        np.testing.assert_allclose(row[row != 0], kept, rtol=1e-6)
        count = 2000 if axis else 10000
        assert abs((row == 0).mean() - rate) <= 4 * np.sqrt(rate * (1 - rate) / count)
        if axis:
            np.testing.assert_array_equal(row, np.broadcast_to(row[:1], row.shape))
    np.testing.assert_array_equal(array(layer([x, rates])), x)


def test_a_strength_that_is_nan_stays_nan():
    values, x = np.array([[np.nan], [0.0]], "float32"), np.ones((2, 4), "float32")
    for layer in (kr.layers.HyperDropout(seed=0), kr.layers.HyperGaussianNoise(seed=0)):
        y = array(layer([x, values], training=True))
        assert np.isnan(y[0]).all() and (y[1] == 1).all()


def test_gaussian_noise_of_a_deviation_for_each_sample():
    deviations = np.array([[0.0], [0.5], [2.0]], "float32")
    x = normal(3, 4000)
    noise = array(kr.layers.HyperGaussianNoise(seed=0)([x, deviations], training=True)) - x
    assert (noise[0] == 0).all()
    np.testing.assert_allclose(noise[1:].std(1), [0.5, 2.0], rtol=0.05)
    assert np.abs(noise.mean(1)).max() < 0.15
    assert np.abs(np.corrcoef(noise[1:])[0, 1]) < 0.1


def test_a_strength_has_no_gradient():
    x = ops.ones((2, 6))
    for layer in (kr.layers.HyperDropout(seed=0), kr.layers.HyperGaussianNoise(seed=0)):

        def total(values, layer=layer):
            return ops.sum(layer([x, values], training=True) ** 2)

        gradient = kr.autodiff.grad(total)(ops.convert_to_tensor(np.full((2, 1), 0.3, "float32")))
        assert (array(gradient) == 0).all()


@pytest.mark.parametrize("kind", [kr.layers.HyperDropout, kr.layers.HyperGaussianNoise])
def test_what_is_refused_by_noise(kind):
    x, values = np.ones((2, 3), "float32"), np.ones((2, 2), "float32")
    for inputs, words in [
        (x, "a list"),
        ([x, values[:, 0]], "with a column"),
        ([x.astype("int32"), values], "floating"),
    ]:
        with pytest.raises(ValueError, match=words):
            kind()(inputs)
    with pytest.raises(ValueError, match="a column 2"):
        kind(2)([x, values])
    with pytest.raises(ValueError, match="after that of the batch"):
        kr.layers.HyperDropout(axis=0)([x, values])


def test_masks_are_those_of_the_features():
    tokens, h = np.array([[1, 2, 0]]), np.ones((1, 1), "float32")
    x = keras.layers.Embedding(3, 4, mask_zero=True)(tokens)
    for layer in (kr.layers.SelfTuningDense(2), kr.layers.HyperDropout(seed=0)):
        outputs = layer([x, ops.convert_to_tensor(h)])
        mask = keras.utils.get_mask(outputs) if hasattr(keras.utils, "get_mask") else None
        mask = getattr(outputs, "_keras_mask", None) if mask is None else mask
        np.testing.assert_array_equal(array(ops.cast(mask, "int32")), [[1, 1, 0]])
