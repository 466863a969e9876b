"""WeightConditioning: unit norms of what feeds each output unit, whatever the layer."""

import numpy as np
import pytest
from keras import layers, ops

from keras_regularize import autodiff
from keras_regularize.layers import WeightConditioning
from keras_regularize.layers.reparameterization.kernels import fan_in, kernels_of, output_axes
from keras_regularize.layers.reparameterization.reparameterized import is_kernel
from keras_regularize.testing._common import fused, to_numpy
from tests.helpers import normal


def condition_number(w):
    singular = np.linalg.svd(np.asarray(w, "float64"), compute_uv=False)
    return singular[0] / singular[-1]


def test_norms_scales_and_gradients():
    w = normal(5, 4)
    scales = np.array([1e-3, 1.0, 50.0, 7.0], "float32")
    cotangent = normal(5, 4, seed=1)

    def run(w, cotangent):
        def total(w):
            result = WeightConditioning.condition(w)
            return ops.sum(result * cotangent), result

        gradient, result = autodiff.grad(total, has_aux=True)(w)
        again = WeightConditioning.condition(result)
        both = WeightConditioning.condition(w, "both")
        return result, gradient, again, both

    run = fused(run)
    result, gradient, again, both = map(to_numpy, run(w, cotangent))
    np.testing.assert_allclose(np.linalg.norm(result, axis=0), 1.0, rtol=1e-5)
    np.testing.assert_allclose(again, result, rtol=1e-5)
    # Each gradient is orthogonal to its filter, and inverse to its size.
    np.testing.assert_allclose((gradient * w).sum(0), 0.0, atol=1e-5)
    scaled, its_gradient, _, _ = map(to_numpy, run(w * scales, cotangent))
    np.testing.assert_allclose(scaled, result, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(its_gradient * scales, gradient, rtol=1e-3, atol=1e-4)
    columns = w / np.linalg.norm(w, axis=0)
    expected = columns / np.linalg.norm(columns, axis=1, keepdims=True)
    np.testing.assert_allclose(both, expected, rtol=1e-4, atol=1e-6)


def test_the_condition_number_of_badly_scaled_matrices_falls():
    rng = np.random.default_rng(0)
    for seed in range(5):
        w = normal(12, 8, seed=seed) * (10.0 ** rng.uniform(-2, 2, 8)).astype("float32")
        assert condition_number(to_numpy(WeightConditioning.condition(w))) < 0.1 * condition_number(
            w
        )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_zero_tiny_and_huge_vectors(dtype):
    w = np.array([[0.0, 1e-7, 6e4, 1.0], [0.0, 0.0, -6e4, 0.0]], "float32")

    def run(w):
        w, cotangent = ops.cast(w, dtype), ops.convert_to_tensor([[1.0], [2.0]])

        def total(w):
            result = WeightConditioning.condition(w)
            return ops.sum(ops.cast(result, "float32") * cotangent), result

        gradient, result = autodiff.grad(total, has_aux=True)(w)
        return [ops.cast(ops.stop_gradient(a), "float32") for a in (gradient, result)]

    gradient, result = map(to_numpy, fused(run)(w))
    half = 0.5**0.5
    expected = [[0.0, 1.0, half, 1.0], [0.0, 0.0, -half, 0.0]]
    np.testing.assert_allclose(result, expected, rtol=1e-2 if dtype == "float16" else 1e-5)
    np.testing.assert_array_equal(gradient[:, 0], 0.0)
    assert np.isfinite(gradient[:, 2:]).all()


# Axes of the kernel over which the weights of one output unit lie.
INPUT_AXES = {
    "dense": (lambda: layers.Dense(3), (2, 4), {"kernel": (0,)}),
    "conv": (lambda: layers.Conv2D(3, 2), (2, 5, 5, 2), {"kernel": (0, 1, 2)}),
    "transposed": (lambda: layers.Conv1DTranspose(3, 2), (2, 5, 2), {"kernel": (0, 2)}),
    "depthwise": (lambda: layers.DepthwiseConv2D(2), (2, 5, 5, 2), {"kernel": (0, 1)}),
    "separable": (
        lambda: layers.SeparableConv1D(3, 2),
        (2, 5, 2),
        {"depthwise_kernel": (0,), "pointwise_kernel": (0, 1)},
    ),
    "einsum": (
        lambda: layers.EinsumDense("abc,cde->abde", (None, 3, 2)),
        (2, 3, 4),
        {"kernel": (0,)},
    ),
    "bidirectional": (
        lambda: layers.Bidirectional(layers.GRU(2)),
        (2, 4, 3),
        {"kernel": (0,), "recurrent_kernel": (0,)},
    ),
}


@pytest.mark.parametrize("name", INPUT_AXES)
def test_output_units_of_layers_have_unit_norm(name):
    make, shape, axes = INPUT_AXES[name]
    wrapper = WeightConditioning(make())
    x = normal(*shape)
    out = to_numpy(wrapper(x))
    plain = wrapper.fold()
    np.testing.assert_allclose(to_numpy(plain(x)), out, rtol=1e-4, atol=1e-5)
    for stored, folded in zip(wrapper.weights, plain.weights):
        expected = to_numpy(stored)
        if is_kernel(folded.name):
            norm = np.sqrt((expected**2).sum(axes[folded.name], keepdims=True))
            expected = expected / norm
        np.testing.assert_allclose(to_numpy(folded), expected, rtol=1e-4, atol=1e-6)


def test_attention_has_an_output_unit_per_head_and_key():
    wrapper = WeightConditioning(layers.MultiHeadAttention(2, 3))
    x = normal(2, 4, 5)
    out = to_numpy(wrapper(x, x))
    plain = wrapper.fold()
    np.testing.assert_allclose(to_numpy(plain(x, x)), out, rtol=1e-4, atol=1e-5)
    query = to_numpy(plain.query_dense.kernel)
    np.testing.assert_allclose(np.linalg.norm(query, axis=0), np.ones((2, 3)), rtol=1e-4)
    output = to_numpy(plain.output_dense.kernel)
    np.testing.assert_allclose(np.linalg.norm(output, axis=(0, 1)), np.ones(5), rtol=1e-4)


def test_axes_and_fan_in_of_attention_do_not_depend_on_the_kind_of_attention():
    heads, size, features = 2, 3, 5
    layer = layers.MultiHeadAttention(heads, size)
    grouped = layers.GroupQueryAttention(size, heads, 1)
    x = normal(2, 4, features)
    found = {}
    for attention in (layer, grouped):
        attention(x, x)
        kernels = kernels_of(attention)
        assert [k.path.split("/")[-2] for k in kernels] == [
            "query",
            "key",
            "value",
            "attention_output",
        ]
        found[attention] = output_axes(attention)
        # A column of a head is fed by the features, one of the output by the heads and their columns.
        inputs = [fan_in(tuple(k.shape), axes) for k, axes in zip(kernels, found[attention])]
        assert inputs == [features, features, features, heads * size]
    assert found[layer] == found[grouped] == [(1, 2), (1, 2), (1, 2), (2,)]
    wrapper = WeightConditioning(grouped)
    wrapper(x, x)
    for kernel, axis in zip(kernels_of(wrapper.fold()), [0, 0, 0, (0, 1)]):
        np.testing.assert_allclose(np.linalg.norm(to_numpy(kernel), axis=axis), 1.0, rtol=1e-4)


def test_bad_arguments():
    with pytest.raises(ValueError, match="`mode` must be one of 'output', 'input', 'both'"):
        WeightConditioning(layers.Dense(2), mode="rows")
    with pytest.raises(ValueError, match="`mode` must be one of 'output', 'input', 'both'"):
        WeightConditioning.condition(normal(2, 3), "rows")
    with pytest.raises(ValueError, match="`axis` must name axes of the weight.*axis=2"):
        WeightConditioning.condition(normal(2, 3), axis=2)
    with pytest.raises(ValueError, match="`epsilon` must be a number above 0"):
        WeightConditioning(layers.Dense(2), epsilon=0.0)
    with pytest.raises(ValueError, match="needs a layer with a kernel"):
        WeightConditioning(layers.BatchNormalization())(normal(2, 3))
