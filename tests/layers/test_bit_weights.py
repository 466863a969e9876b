"""BitWeights: integer kernels whose bits are trained, frozen, read and written."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_regularize import autodiff
from keras_regularize.layers import BitWeights
from keras_regularize.testing._common import fused, to_numpy
from tests.helpers import normal


def composed(planes, scale):
    """The kernel of bits, by a loop."""
    planes = np.asarray(planes, "int64")
    magnitude = np.ones(planes.shape[1:], "int64") if len(planes) == 1 else 0
    for i, plane in enumerate(planes[:-1]):
        magnitude = magnitude + 2**i * plane
    return scale * np.where(planes[-1] == 1, -1, 1) * magnitude


def layer_of(bits=4, shape=(2, 5), layer=None, **options):
    wrapper = BitWeights(layer or layers.Dense(3), bits=bits, **options)
    return wrapper, to_numpy(wrapper(normal(*shape)))


@pytest.mark.parametrize("bits", [1, 2, 6])
def test_initial_kernels_are_of_he_and_without_zeros(bits):
    wrapper, _ = layer_of(bits, (1, 64), layers.Dense(200))
    planes = wrapper.read_bits()
    kernel = composed(planes, float(to_numpy(wrapper.scale)))
    np.testing.assert_allclose(kernel.std(), (2 / 64) ** 0.5, rtol=1e-4)
    np.testing.assert_allclose(to_numpy(wrapper.fold().kernel), kernel, rtol=1e-5)
    assert (kernel != 0).all()
    # Every pattern of bits but that of zero is equally likely.
    patterns, counts = np.unique(np.abs(composed(planes, 1)), return_counts=True)
    assert len(patterns) == max(2 ** (bits - 1) - 1, 1)
    assert np.abs(counts / counts.mean() - 1).max() < 0.3
    if bits > 1:
        sizes = to_numpy(wrapper.magnitude[0])
        np.testing.assert_allclose((sizes**2).mean(), 2 / (64 * (bits - 1)), rtol=0.1)


def test_gradients_of_planes_and_zero_bits():
    magnitude, sign = normal(3, 4, 5), normal(4, 5, seed=1)
    magnitude[:, 0, 0] = sign[0, 1] = 0.0  # A virtual bit of 0 is off.

    def run(magnitude, sign):
        def total(planes):
            kernel = BitWeights.compose(*planes, 0.5)
            return ops.sum(kernel), kernel

        return autodiff.grad(total, has_aux=True)([magnitude, sign])

    (of_magnitude, of_sign), kernel = fused(run)(magnitude, sign)
    planes = np.concatenate([magnitude, sign[None]]) > 0
    expected = composed(planes, 0.5)
    np.testing.assert_allclose(to_numpy(kernel), expected)
    assert to_numpy(kernel)[0, 0] == 0
    signs = np.where(sign > 0, -1, 1)
    for i, plane in enumerate(to_numpy(of_magnitude)):
        np.testing.assert_allclose(plane, 0.5 * 2**i * signs)
    np.testing.assert_allclose(to_numpy(of_sign), -np.abs(expected))


def test_bits_are_read_and_written():
    wrapper, out = layer_of(4, layer=layers.Conv1D(3, 2), shape=(2, 5, 2))
    before = [to_numpy(plane) for plane in wrapper.weights]
    planes = wrapper.read_bits()
    assert planes.shape == (4, 2, 2, 3) and set(np.unique(planes)) == {0, 1}
    wrapper.write_bits(planes)
    for old, plane in zip(before, wrapper.weights):
        np.testing.assert_array_equal(to_numpy(plane), old)
    other = 1 - planes
    wrapper.magnitude[0].assign(np.zeros((2, 2, 3)))
    wrapper.write_bits(other)
    np.testing.assert_array_equal(wrapper.read_bits(), other)
    kernel = composed(other, float(to_numpy(wrapper.scale)))
    np.testing.assert_allclose(to_numpy(wrapper.fold().kernel), kernel, rtol=1e-5)
    other[:-1] = 0
    wrapper.write_bits(other)
    np.testing.assert_array_equal(to_numpy(wrapper(normal(2, 5, 2))), 0.0)


def test_only_the_chosen_planes_train(tmp_path):
    wrapper = BitWeights(layers.Dense(3), bits=4, trainable_bits=[0, 1, 1, 1])
    model = keras.Sequential([keras.Input((5,)), wrapper])
    names = [variable.name for variable in wrapper.trainable_variables]
    assert names == ["bit_1", "bit_2", "sign", "bias"]
    frozen = [variable.name for variable in wrapper.non_trainable_variables]
    assert frozen == ["scale", "bit_0", "kernel"]
    model.trainable = False
    assert model.trainable_variables == []
    model.trainable = True
    assert [variable.name for variable in wrapper.trainable_variables] == names
    wrapper.write_bits(np.ones((4, 5, 3), "int32"))
    before = {variable.name: to_numpy(variable) for variable in wrapper.weights}
    x, y = normal(64, 5), normal(64, 5) @ np.full((5, 3), 2.0, "float32")
    model.compile(keras.optimizers.Adam(0.05, weight_decay=0.01), "mse")
    losses = model.fit(x, y, epochs=40, batch_size=64, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    moved = {v.name for v in wrapper.weights if (to_numpy(v) != before[v.name]).any()}
    assert moved == set(names)
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        restored.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-6
    )
    assert [v.name for v in restored.layers[0].trainable_variables] == names
    # What was trained is an integer kernel.
    integers = to_numpy(wrapper.fold().kernel) / to_numpy(wrapper.scale)
    np.testing.assert_allclose(integers, np.round(integers), atol=1e-4)
    assert np.abs(integers).max() <= 7.01


def test_a_scale_of_ones_own_and_a_depthwise_kernel():
    wrapper, _ = layer_of(3, (2, 5, 5, 2), layers.DepthwiseConv2D(2), scale=0.25)
    assert set(np.unique(np.abs(to_numpy(wrapper.fold().kernel)))) <= {0.25, 0.5, 0.75}
    he, _ = layer_of(3, (2, 5, 5, 2), layers.DepthwiseConv2D(2))
    np.testing.assert_allclose(to_numpy(he.fold().kernel).std(), (2 / 4) ** 0.5, rtol=1e-5)


def test_bad_arguments():
    for bits in (0, 2.5):
        with pytest.raises(ValueError, match="`bits` must be an integer of at least 1"):
            BitWeights(layers.Dense(2), bits=bits)
    with pytest.raises(ValueError, match="`bits` must be an integer of at least 1 and at most 24"):
        BitWeights(layers.Dense(2), bits=25)
    for flags in ([1, 1], [1, 1, 2], 3):
        with pytest.raises(ValueError, match="`trainable_bits` must be 3 times 0 or 1"):
            BitWeights(layers.Dense(2), bits=3, trainable_bits=flags)
    for scale in (0.0, "lecun", -1.0):
        with pytest.raises(ValueError, match="`scale` must be"):
            BitWeights(layers.Dense(2), scale=scale)
    with pytest.raises(ValueError, match="exactly one kernel.*recurrent_kernel"):
        BitWeights(layers.SimpleRNN(2))(normal(1, 2, 3))
    with pytest.raises(ValueError, match="`magnitude` must be planes.*Received.*\\(3, 4\\)"):
        BitWeights.compose(normal(3, 4), normal(3, 4), 1.0)
    wrapper = BitWeights(layers.Dense(3), bits=2)
    with pytest.raises(ValueError, match="bits exist once the layer is built"):
        wrapper.read_bits()
    wrapper(normal(2, 5))
    for planes in (np.ones((2, 5, 2)), np.full((2, 5, 3), 2)):
        with pytest.raises(ValueError, match="`planes` must be an array"):
            wrapper.write_bits(planes)


@pytest.mark.parametrize("name", ["regularizer", "constraint"])
def test_what_would_not_act_on_bits_is_refused(name):
    option = {"regularizer": keras.regularizers.L2(0.1), "constraint": keras.constraints.NonNeg()}
    wrapper = BitWeights(keras.layers.Dense(2, **{f"kernel_{name}": option[name]}))
    with pytest.raises(ValueError, match=f"its {name} would have no effect"):
        wrapper.build((None, 3))
