"""ElasticQuantization: a supernet of bit widths, its objective, and the subnets picked from it."""

import json
import pathlib

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_regularize import autodiff
from keras_regularize.layers import (
    ElasticQuantized,
    FakeQuantize,
    QuantizedWeights,
    calibrate_quantizers,
)
from keras_regularize.models import ElasticQuantization, RegularizedModel
from keras_regularize.regularizers.weight_distribution import weight_distribution
from keras_regularize.testing._common import fused, to_numpy

GOLDEN = pathlib.Path(__file__).parent.parent / "golden" / "regularizers.WeightDistribution.json"


def data(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(12, 4)).astype("float32"), rng.integers(0, 3, 12).astype("int32")


def network():
    keras.utils.set_random_seed(1)
    hidden = [layers.Dense(6, "tanh"), layers.Dense(5, "tanh")]
    return keras.Sequential([keras.Input((4,)), *hidden, layers.Dense(3)])


def elastic(**options):
    model = ElasticQuantization(network(), (2, 4, 8), seed=2, **options)
    model.calibrate(data()[0])
    model.compile(
        keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return model


def distribution(w):
    w = np.asarray(w, "float64").ravel()
    z = (w - w.mean()) / w.std(ddof=1)
    return 0.015 * (np.mean(z**4) - 1.8) ** 2 + np.mean(z**3) ** 2


def test_weight_distribution_equals_the_golden_cases():
    def both(w, **config):
        return autodiff.value_and_grad(lambda w: weight_distribution(w, **config))(w)

    for case in json.loads(GOLDEN.read_text())["cases"]:
        run = fused(lambda w, case=case: both(w, **case["config"]))
        value, gradient = run(np.array(case["call"]["w"], "float32"))
        np.testing.assert_allclose(to_numpy(value), case["expect"]["value"], rtol=1e-4)
        np.testing.assert_allclose(
            to_numpy(gradient), case["expect"]["grad"]["w"], rtol=1e-3, atol=1e-5
        )
    value, gradient = both(ops.ones((3, 2)))
    np.testing.assert_allclose(to_numpy(value), 0.015 * 1.8**2, rtol=1e-5)
    np.testing.assert_array_equal(to_numpy(gradient), 0.0)


@pytest.mark.parametrize("symmetric, per_channel", [(True, True), (False, False)])
def test_a_choice_equals_fixed_quantizers(symmetric, per_channel):
    x, _ = data()
    bare = layers.Dense(3)
    wrapper = ElasticQuantized(bare, (2, 3, 8))
    fixed = keras.Sequential(
        [
            FakeQuantize(2, symmetric),
            QuantizedWeights(layers.Dense(3), 3, symmetric, per_channel),
        ]
    )
    for model in (wrapper, fixed):
        model(x)
    fixed.layers[1].layer.set_weights(bare.get_weights())
    for model in (wrapper, fixed):
        calibrate_quantizers(model, x)
    wrapper.select(3, 2, symmetric, per_channel, symmetric)
    np.testing.assert_allclose(to_numpy(wrapper(x)), to_numpy(fixed(x)), rtol=1e-5, atol=1e-6)

    def gradients(model):
        variables = model.trainable_variables

        def total(values):
            with keras.StatelessScope(list(zip(variables, values))):
                return ops.sum(ops.square(model(x)))

        found = autodiff.grad(total)([v.value for v in variables])
        return {v.name: to_numpy(g) for v, g in zip(variables, found)}

    found, expected = gradients(wrapper), gradients(fixed)
    granularity = "unit" if per_channel else "kernel"
    scale = found[f"kernel_{granularity}_scale"][1, int(not symmetric)]
    np.testing.assert_allclose(scale, expected["kernel_scale"], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found["kernel"], expected["kernel"], rtol=1e-3, atol=1e-4)
    step = found["input_scale"]
    np.testing.assert_allclose(step[0, int(not symmetric)], expected["scale"], rtol=1e-3)
    step[0, int(not symmetric)] = 0.0
    np.testing.assert_array_equal(step, 0.0)  # The others are not used.
    if not symmetric:
        np.testing.assert_allclose(found["input_offset"][0], expected["offset"], rtol=1e-3)
        offset = found["kernel_kernel_offset"][1]
        np.testing.assert_allclose(offset, expected["kernel_offset"], rtol=1e-3, atol=1e-4)


def test_the_objective_equals_the_formula():
    x, y = data()
    model = elastic(alpha=0.3, distribution_factor=2.0, subnets=4)
    forward = autodiff.Forward(model)
    before = [to_numpy(layer.choice) for layer in model.elastic_layers()]
    batch = model.prepare(autodiff.Batch(x, y, variables=model.trainable_variables), forward)
    loss, _ = model.objective(batch, autodiff.Forward(model))
    choices = to_numpy(batch.extra[model.key][0])
    assert choices.shape == (4, 3, 5)
    assert (choices[0, :, :2] == 2).all() and (choices[:, [0, 2], :2] == 2).all()
    assert (choices[3, 1, :2] == 0).all()
    model.after_update(batch, None, None)
    for choice, layer in zip(before, model.elastic_layers()):
        np.testing.assert_array_equal(to_numpy(layer.choice), choice)
    expected, previous = 0.0, None
    for k in range(4):
        for layer, choice in zip(model.elastic_layers(), choices[k]):
            layer.choice.assign(choice)
        logits = to_numpy(model(x)).astype("float64")
        log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        own = -log_p[np.arange(len(y)), y].mean()
        if k == 0:
            expected += own
        else:
            guidance = (np.exp(previous) * (previous - log_p)).sum(1).mean()
            expected += 0.3 * guidance + 0.7 * own
        previous = log_p
    kernels = [to_numpy(layer.layer.kernel) for layer in model.elastic_layers()]
    expected += 2.0 * (distribution(kernels[1]) + distribution(kernels[2])) / 2
    np.testing.assert_allclose(float(to_numpy(loss)), expected, rtol=1e-4)


def test_a_plain_model_is_copied_trained_and_picked_from():
    x, y = data()
    plain = network()
    model = ElasticQuantization(plain, (2, 4, 8), seed=2)
    model.calibrate(x)
    assert plain.layers[0] is not model.elastic_layers()[0].layer
    difference = np.abs(to_numpy(model(x)) - to_numpy(plain(x))).max()
    assert 0 < difference < 0.05  # Eight bits.
    model.compile(
        keras.optimizers.Adam(0.02), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    losses = model.fit(x, y, batch_size=12, epochs=25, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    eight = model.predict(x, verbose=0)
    model.select([8, 2, 8], [8, 2, 4])
    assert [to_numpy(layer.choice)[:2].tolist() for layer in model.elastic_layers()] == [
        [2, 2],
        [0, 0],
        [2, 1],
    ]
    picked = model.predict(x, verbose=0)
    assert np.abs(picked - eight).max() > 1e-3


def test_batch_statistics_are_those_of_the_picked_subnet():
    x = data()[0] * 3 + 1
    net = keras.Sequential(
        [keras.Input((4,)), layers.Dense(5), layers.BatchNormalization(), layers.Dense(2)]
    )
    model = ElasticQuantization(net, (2, 8))
    model.calibrate(x)
    model.select(2, 2)
    model.recalibrate_batch_norm(x, batch_size=4)
    first, norm = model.model.layers[:2]
    parts = [to_numpy(first(x[i : i + 4])) for i in (0, 4, 8)]
    means, variances = np.mean([p.mean(0) for p in parts], 0), np.mean([p.var(0) for p in parts], 0)
    np.testing.assert_allclose(to_numpy(norm.moving_mean), means, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(to_numpy(norm.moving_variance), variances, rtol=1e-4, atol=1e-5)
    assert norm.momentum == 0.99


def test_bad_arguments():
    for bits in ((4, 2), (), 4):
        with pytest.raises(ValueError, match="`bits` must be bit widths in ascending order"):
            ElasticQuantization(network(), bits)
    with pytest.raises(ValueError, match="`subnets` must be an integer of at least 2"):
        ElasticQuantization(network(), subnets=1)
    with pytest.raises(ValueError, match="`alpha` must be a number"):
        ElasticQuantization(network(), alpha=1.5)
    with pytest.raises(ValueError, match="must be a built functional"):
        ElasticQuantization(keras.Sequential([layers.Dense(2)]))
    with pytest.raises(ValueError, match="must have layers `ElasticQuantized"):
        ElasticQuantization(RegularizedModel(network()))
    model = ElasticQuantization(network(), (2, 8))
    with pytest.raises(ValueError, match="must have layers `ElasticQuantized"):
        ElasticQuantization(model.model, (2, 4))
    with pytest.raises(ValueError, match="`weight_bits` must be one of"):
        model.select(3, 8)
    with pytest.raises(ValueError, match="`input_bits` must be one number or 3"):
        model.select(2, [8, 8])
