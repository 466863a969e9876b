"""Reparameterized and WeightCompander: the wrapped layer with other weights, and nothing else changed."""

import json

import keras
import numpy as np
import pytest
from keras import layers, ops
from sklearn.datasets import load_digits

from keras_regularize import autodiff
from keras_regularize.layers import Reparameterized, WeightCompander
from keras_regularize.layers.reparameterization.reparameterized import is_kernel
from keras_regularize.models import RegularizedModel
from keras_regularize.regularizers import attach
from tests.helpers import divided


@keras.saving.register_keras_serializable("tests")
class Doubled(Reparameterized):
    """Computes with twice the kernels."""

    def effective(self, name, value):
        return 2.0 * value if is_kernel(name) else value


def array(x):
    return ops.convert_to_numpy(ops.stop_gradient(ops.convert_to_tensor(x)))


def inputs_of(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


TOKENS = np.array([[1, 3, 0], [4, 4, 2]], "int32")
CASES = {
    "dense": (lambda: layers.Dense(3, activation="tanh"), (2, 4)),
    "einsum": (lambda: layers.EinsumDense("abc,cd->abd", (None, 3), bias_axes="d"), (2, 3, 4)),
    "conv": (lambda: layers.Conv2D(3, 2), (2, 5, 5, 2)),
    "conv_transpose": (lambda: layers.Conv1DTranspose(3, 2), (2, 5, 2)),
    "depthwise": (lambda: layers.DepthwiseConv2D(2), (2, 5, 5, 2)),
    "separable": (lambda: layers.SeparableConv1D(3, 2), (2, 5, 2)),
    "embedding": (lambda: layers.Embedding(5, 3), TOKENS),
    "simple_rnn": (lambda: layers.SimpleRNN(3), (2, 4, 2)),
    "lstm": (lambda: layers.LSTM(3, return_sequences=True), (2, 4, 2)),
    "gru": (lambda: layers.GRU(3), (2, 4, 2)),
    "bidirectional": (lambda: layers.Bidirectional(layers.GRU(2)), (2, 4, 2)),
    "model": (lambda: keras.Sequential([layers.Dense(3), layers.Dense(2)]), (2, 4)),
}


def case(name):
    make, x = CASES[name]
    return make(), x if isinstance(x, np.ndarray) else inputs_of(x)


def twin(layer, x, change=lambda name, value: value):
    """A bare layer of the same class with `change`d weights."""
    bare = type(layer).from_config(layer.get_config())
    bare(x)
    weights = [change(v.name, array(v.value)) for v in layer.weights]
    bare.set_weights(weights)
    return bare


@pytest.mark.parametrize("name", CASES)
def test_the_base_class_equals_the_bare_layer(name):
    layer, x = case(name)
    wrapper = Reparameterized(layer)
    out = array(wrapper(x))
    np.testing.assert_array_equal(out, array(layer(x)))
    np.testing.assert_array_equal(out, array(twin(layer, x)(x)))
    assert wrapper.compute_output_shape(x.shape) == layer.compute_output_shape(x.shape)
    assert [v.path for v in wrapper.weights] == [v.path for v in layer.weights]


@pytest.mark.parametrize("name", CASES)
def test_runs_with_the_effective_weights_and_stores_the_others(name):
    layer, x = case(name)
    wrapper = Doubled(layer)
    wrapper(x)
    stored = [array(v.value) for v in layer.weights]
    bare = twin(layer, x, lambda n, v: 2 * v if is_kernel(n) else v)
    np.testing.assert_allclose(array(wrapper(x)), array(bare(x)), rtol=1e-5, atol=1e-6)
    for before, variable in zip(stored, layer.weights):
        np.testing.assert_array_equal(array(variable.value), before)


def every_kind(wrap):
    """One model with a layer of every kind."""
    tokens, image = keras.Input((6,), dtype="int32"), keras.Input((5, 5, 2))
    x = wrap(layers.Embedding(5, 4))(tokens)
    x = x + wrap(layers.MultiHeadAttention(2, 3))(x, value=2 * x, key=x)
    x = wrap(layers.SeparableConv1D(4, 2))(x)
    x = wrap(layers.Bidirectional(layers.LSTM(2)))(x)
    y = wrap(layers.DepthwiseConv2D(2))(wrap(layers.Conv2D(3, 2))(image))
    y = layers.GlobalAveragePooling2D()(y)
    return keras.Model([tokens, image], wrap(layers.Dense(2))(layers.concatenate([x, y])))


def test_every_kind_of_layer_trains_and_folds():
    model = every_kind(Doubled)
    rng = np.random.default_rng(0)
    x = [rng.integers(0, 5, (16, 6)), rng.normal(size=(16, 5, 5, 2))]
    y = np.stack([x[0].mean(1), x[1].mean((1, 2, 3))], axis=1)
    before = model.get_weights()
    model.compile(keras.optimizers.Adam(0.01), "mse")
    losses = model.fit(x, y, batch_size=16, epochs=15, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    assert all((old != new).any() for old, new in zip(before, model.get_weights()))
    plain = keras.models.clone_model(
        model,
        clone_function=lambda layer: (
            layer.fold()
            if isinstance(layer, Doubled)
            else type(layer).from_config(layer.get_config())
        ),
    )
    assert not any(isinstance(layer, Reparameterized) for layer in plain.layers)
    assert len(plain.weights) == len(model.weights)
    np.testing.assert_allclose(
        plain.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-4, atol=1e-5
    )


def test_fold_needs_weights():
    with pytest.raises(ValueError, match="needs a built layer"):
        Doubled(layers.Dense(2)).fold()


def test_symbolic_shapes_and_dtypes():
    assert Doubled(layers.Conv2D(3, 2))(keras.Input((None, 5, 2))).shape == (None, None, 4, 3)
    tokens = keras.Input((None,), dtype="int32")
    out = Doubled(layers.Embedding(5, 3, dtype="mixed_bfloat16"))(tokens)
    assert out.shape == (None, None, 3) and out.dtype == "bfloat16"
    states = Doubled(layers.LSTM(3, return_state=True))(keras.Input((4, 2)))
    assert [s.shape for s in states] == [(None, 3)] * 3


def attention_model(wrap):
    x = keras.Input((4, 6))
    attention = wrap(layers.MultiHeadAttention(2, 3))
    out = attention(x, value=2 * x, key=x, use_causal_mask=True)
    return keras.Model(x, out), attention


def test_attention_with_named_inputs_and_flags():
    model, wrapper = attention_model(Doubled)
    bare, attention = attention_model(lambda layer: layer)
    bare.set_weights([2 * w if w.ndim > 2 else w for w in model.get_weights()])
    x = inputs_of((2, 4, 6))
    np.testing.assert_allclose(
        model.predict(x, verbose=0), bare.predict(x, verbose=0), rtol=1e-4, atol=1e-5
    )
    out, scores = wrapper(x, x, return_attention_scores=True)
    _, expected = attention(x, x, return_attention_scores=True)
    np.testing.assert_allclose(array(scores), array(expected), rtol=1e-4, atol=1e-6)
    mask = np.tril(np.ones((1, 4, 4), "bool"))
    np.testing.assert_allclose(
        array(wrapper(x, x, attention_mask=mask)),
        array(attention(x, x, attention_mask=mask)),
        rtol=1e-4,
        atol=1e-5,
    )


def recurrent_model(wrap):
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            wrap(layers.Embedding(5, 3, mask_zero=True)),
            wrap(layers.LSTM(4, return_sequences=True)),
            layers.GlobalAveragePooling1D(),
        ]
    )


def test_masks_are_made_and_used():
    model, bare = recurrent_model(Reparameterized), recurrent_model(lambda layer: layer)
    bare.set_weights(model.get_weights())
    x = np.array([[1, 2, 0, 0], [3, 0, 0, 0]])
    out = model.predict(x, verbose=0)
    np.testing.assert_allclose(out, bare.predict(x, verbose=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out[1:], model.predict(x[1:, :1], verbose=0), rtol=1e-5, atol=1e-6)


def test_an_explicit_mask_and_initial_state():
    layer, x = case("lstm")
    wrapper = Reparameterized(layer)
    mask, state = np.array([[1, 1, 0, 0], [1, 1, 1, 0]], "bool"), [inputs_of((2, 3))] * 2
    out = array(wrapper(x, mask=mask, initial_state=state))
    np.testing.assert_allclose(out, array(layer(x, mask=mask, initial_state=state)), rtol=1e-6)
    assert np.abs(out - array(wrapper(x))).max() > 1e-3


def test_training_argument_and_noise():
    wrapper = Reparameterized(keras.Sequential([layers.Dense(50), layers.Dropout(0.5)]))
    x = np.ones((2, 3), "float32")
    assert (array(wrapper(x)) != 0).all()
    first, second = array(wrapper(x, training=True)), array(wrapper(x, training=True))
    assert 0 < (first == 0).sum() < 100 and ((first == 0) != (second == 0)).any()


def test_batch_statistics_move_as_without_the_wrapper():
    x = inputs_of((16, 3)) + 2
    wrapper = Doubled(layers.BatchNormalization())
    bare = layers.BatchNormalization()
    for layer in (wrapper, bare):
        layer(x, training=True)
    for left, right in zip(wrapper.weights, bare.weights):
        np.testing.assert_allclose(array(left.value), array(right.value), rtol=1e-6)
    model = keras.Sequential([keras.Input((3,)), wrapper])
    model.compile("sgd", "mse")
    before = array(wrapper.layer.moving_mean.value)
    model.fit(x, x, batch_size=4, verbose=0)
    assert (np.abs(array(wrapper.layer.moving_mean.value) - before) > 0.05).all()


@keras.saving.register_keras_serializable("tests")
class AddsLoss(layers.Layer):
    def build(self, shape):
        self.kernel = self.add_weight(shape[1:], "ones", name="kernel")

    def call(self, x):
        self.add_loss(0.5 * ops.sum(self.kernel))
        return x * self.kernel


def regularized():
    return layers.Dense(
        3,
        kernel_initializer=keras.initializers.Constant(0.5),
        kernel_regularizer=keras.regularizers.L2(0.1),
        activity_regularizer=keras.regularizers.L2(0.01),
    )


def expected_losses(x):
    out = x @ np.full((4, 3), 1.0)  # Twice the stored 0.5.
    weight = 0.1 * 12 * 0.25  # On the stored kernel.
    return (
        divided(0.01 * (out**2).sum(), len(x)) + weight + 0.5 * 3 * 2
    )  # AddsLoss has effective twos.


def test_losses_count_exactly_once_eagerly():
    x = inputs_of((8, 4))
    inner, adds = Doubled(regularized()), Doubled(AddsLoss())
    model = keras.Sequential([keras.Input((4,)), inner, adds])
    for _ in range(2):
        model(x)
        total = sum(float(array(loss)) for loss in model.losses)
        np.testing.assert_allclose(total, expected_losses(x), rtol=1e-5)


def test_losses_count_exactly_once_in_fit():
    x = inputs_of((8, 4))
    model = keras.Sequential([keras.Input((4,)), Doubled(regularized()), Doubled(AddsLoss())])
    y = model.predict(x, verbose=0)  # No data term.
    model.compile(keras.optimizers.SGD(0.0), "mse")
    loss = model.fit(x, y, batch_size=8, verbose=0).history["loss"][0]
    np.testing.assert_allclose(loss, expected_losses(x), rtol=1e-4)
    np.testing.assert_allclose(
        model.evaluate(x, y, batch_size=8, verbose=0), expected_losses(x), rtol=1e-4
    )


def test_stateless_scopes_map_the_stored_weights():
    x = inputs_of((8, 4))
    wrapper = Doubled(regularized())
    wrapper(x)
    kernel, bias = wrapper.trainable_variables
    other = inputs_of((4, 3), seed=1)
    mapping = [(kernel, ops.convert_to_tensor(other)), (bias, ops.ones(3))]
    with keras.StatelessScope(mapping, collect_losses=True):
        out = array(wrapper(x))
        losses = sorted(float(array(loss)) for loss in wrapper.losses)
    np.testing.assert_allclose(out, x @ (2 * other) + 1, rtol=1e-4, atol=1e-5)
    activity, weight = divided(0.01 * (out**2).sum(), 8), 0.1 * (other**2).sum()
    np.testing.assert_allclose(losses, sorted([activity, weight]), rtol=1e-4)
    np.testing.assert_array_equal(array(kernel.value), np.full((4, 3), 0.5))

    def loss(kernel_value):
        with keras.StatelessScope([(kernel, kernel_value)]):
            return ops.sum(wrapper(x))

    grad = array(autodiff.grad(loss)(ops.convert_to_tensor(other)))
    np.testing.assert_allclose(grad, 2 * x.sum(0)[:, None] * np.ones((1, 3)), rtol=1e-4, atol=1e-5)


def test_state_updates_stay_in_the_scope():
    wrapper = Reparameterized(layers.BatchNormalization())
    wrapper(inputs_of((4, 3)))
    mean = wrapper.layer.moving_mean
    with keras.StatelessScope() as scope:
        wrapper(inputs_of((4, 3)) + 5, training=True)
    np.testing.assert_array_equal(array(mean.value), np.zeros(3))
    assert (array(scope.get_current_value(mean)) > 0.01).all()


def test_wrappers_nest():
    x = inputs_of((8, 4))
    model = keras.Sequential([keras.Input((4,)), Doubled(Doubled(regularized()))])
    out = array(model(x))
    np.testing.assert_allclose(out, x @ np.full((4, 3), 2.0), rtol=1e-5, atol=1e-5)
    total = sum(float(array(loss)) for loss in model.losses)
    np.testing.assert_allclose(total, divided(0.01 * (out**2).sum(), 8) + 0.3, rtol=1e-5)
    mapping = [(v, v.value) for v in model.variables]
    with keras.StatelessScope(mapping, collect_losses=True):
        model(x)
        total = sum(float(array(loss)) for loss in model.losses)
    np.testing.assert_allclose(total, divided(0.01 * (out**2).sum(), 8) + 0.3, rtol=1e-5)


def test_equal_in_the_train_step_of_a_regularized_model():
    x = inputs_of((32, 4))
    y = x @ inputs_of((4, 3), seed=1)
    inner = keras.Sequential([keras.Input((4,)), Doubled(regularized()), Doubled(AddsLoss())])
    results = []
    for wrap in (lambda model: model, RegularizedModel):
        plain = keras.models.clone_model(inner)
        plain.set_weights(inner.get_weights())
        model = wrap(plain)
        model.compile(keras.optimizers.SGD(0.02), "mse")
        history = model.fit(x, y, batch_size=16, epochs=3, shuffle=False, verbose=0).history
        results.append((history["loss"], plain.get_weights()))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-5)
    for left, right in zip(results[0][1], results[1][1]):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-6)


def test_regularizers_can_be_attached_inside():
    model = keras.Sequential([keras.Input((4,)), Doubled(layers.Dense(3))])
    (kernel,) = attach(model, keras.regularizers.L2(0.5))
    assert model.layers[0].layer.kernel_regularizer is kernel.regularizer
    np.testing.assert_allclose(
        float(array(model.losses[0])), 0.5 * (array(kernel.value) ** 2).sum(), rtol=1e-5
    )


def test_trains_the_stored_weights():
    x = inputs_of((32, 4))
    y = x @ inputs_of((4, 2), seed=1)
    model = keras.Sequential([keras.Input((4,)), Doubled(layers.Dense(2))])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(x, y, batch_size=32, epochs=100, verbose=0)
    np.testing.assert_allclose(2 * model.get_weights()[0], inputs_of((4, 2), seed=1), atol=1e-2)


@pytest.mark.parametrize("name", ["conv", "embedding", "lstm", "bidirectional"])
def test_save_load_and_continue(name, tmp_path):
    layer, x = case(name)
    dtype = "int32" if name == "embedding" else "float32"
    model = keras.Sequential([keras.Input(x.shape[1:], dtype=dtype), Doubled(layer)])
    y = np.zeros(model.predict(x, verbose=0).shape)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    for each in (model, restored):
        each.fit(x, y, epochs=2, verbose=0)
    np.testing.assert_allclose(
        restored.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6
    )


def test_attention_is_saved(tmp_path):
    model, _ = attention_model(Doubled)
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    x = inputs_of((2, 4, 6))
    np.testing.assert_array_equal(restored.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_effective_weights_are_computed_in_full_precision(policy):
    class Rounding(Reparameterized):
        def effective(self, name, value):
            self.seen = keras.backend.standardize_dtype(value.dtype)
            # Lost in half precision.
            return (value + 1000.0) - 1000.0 + 0.001 if name == "kernel" else value

    wrapper = Rounding(layers.Dense(1, dtype=policy, kernel_initializer="zeros"))
    model = keras.Sequential(
        [keras.Input((1,), dtype="float32"), layers.Identity(dtype=policy), wrapper]
    )
    out = model(np.array([[100.0]], "float32"))
    assert keras.backend.standardize_dtype(out.dtype) == policy.removeprefix("mixed_")
    np.testing.assert_allclose(array(ops.cast(out, "float32")), 0.1, rtol=1e-2)
    assert wrapper.seen == "float32"


def test_batch_statistics_are_kept_in_full_precision():
    wrapper = Reparameterized(layers.BatchNormalization(dtype="mixed_float16"))
    bare = layers.BatchNormalization(dtype="mixed_float16")
    for layer in (wrapper, bare):
        layer(inputs_of((16, 3)), training=True)
    for left, right in zip(wrapper.weights, bare.weights):
        np.testing.assert_array_equal(array(left.value), array(right.value))


def test_a_layer_that_is_built_already_keeps_its_weights():
    layer = layers.Dense(3)
    x = inputs_of((2, 4))
    out = array(layer(x))
    np.testing.assert_array_equal(array(Reparameterized(layer)(x)), out)


def test_freezing_reaches_the_wrapped_layer():
    wrapper = Doubled(layers.Dense(3))
    wrapper.build((None, 4))
    wrapper.trainable = False
    assert wrapper.trainable_variables == [] and len(wrapper.non_trainable_variables) == 2
    np.testing.assert_allclose(array(wrapper(np.zeros((1, 4), "float32"))), 0.0)


def test_not_a_layer():
    with pytest.raises(ValueError, match="wraps a Keras layer"):
        Reparameterized("dense")


# WeightCompander


def compand(v, scale, width):
    v = np.asarray(v, "float64")
    return scale * np.arctan(v / width)


@pytest.mark.parametrize("shape", [(3, 4), (2, 2, 1, 3), ()])
@pytest.mark.parametrize("scale, width", [(1.0, 1.0), (0.5, 0.2), (2.0, -0.7)])
def test_transform_and_its_gradients(shape, scale, width):
    v = inputs_of(shape)
    arguments = [np.asarray(a, "float32") for a in (v, scale, width)]

    def total(tensors):
        return ops.sum(WeightCompander.transform(*tensors))

    out = array(WeightCompander.transform(v, scale, width))
    np.testing.assert_allclose(out, compand(v, scale, width), rtol=1e-5, atol=1e-6)
    grads = autodiff.grad(total)([ops.convert_to_tensor(a) for a in arguments])
    v = np.asarray(v, "float64")
    slope = (scale / width) / (1 + (v / width) ** 2)
    expected = [slope, np.arctan(v / width).sum(), (-slope * v / width).sum()]
    for grad, reference in zip(grads, expected):
        np.testing.assert_allclose(array(grad), reference, rtol=1e-4, atol=1e-5)


def test_transform_is_odd_monotone_and_bounded():
    v = np.linspace(-50, 50, 101).astype("float32")
    w = array(WeightCompander.transform(v, 0.7, 0.3))
    np.testing.assert_allclose(w, -w[::-1], rtol=1e-6)
    assert (np.diff(w) > 0).all() and (np.abs(w) < 0.7 * np.pi / 2).all()
    wide = array(WeightCompander.transform(v[45:56], 1e4, 1e4))  # The identity in the limit.
    np.testing.assert_allclose(wide, v[45:56], rtol=1e-5)


@pytest.mark.parametrize("width, counted", [(1e-9, 1e-3), (0.0, 1e-3), (-1e-9, -1e-3)])
def test_narrow_widths_are_clamped(width, counted):
    v = np.array([1e-3, -2e-3, 0.0], "float32")
    out = array(WeightCompander.transform(v, 1.0, width))
    np.testing.assert_allclose(out, compand(v, 1.0, counted), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_extreme_weights_are_finite(dtype):
    v = ops.cast(np.array([1e4, -1e4, 0.0, 6e4], "float32"), dtype)

    def total(tensors):
        return ops.sum(ops.cast(WeightCompander.transform(*tensors), "float32"))

    out = WeightCompander.transform(v, 1.0, 1e-3)
    assert keras.backend.standardize_dtype(out.dtype) == dtype
    scalars = [ops.convert_to_tensor(1.0), ops.convert_to_tensor(1e-3)]
    for grad in autodiff.grad(total)([v, *scalars]):
        assert np.isfinite(array(ops.cast(grad, "float32"))).all()


@pytest.mark.parametrize("name", ["dense", "conv", "depthwise", "embedding", "gru"])
def test_compander_around_layers(name):
    layer, x = case(name)
    wrapper = WeightCompander(layer, scale=0.5, width=0.3)
    wrapper(x)
    bare = twin(layer, x, lambda n, v: compand(v, 0.5, 0.3) if is_kernel(n) else v)
    np.testing.assert_allclose(array(wrapper(x)), array(bare(x)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(array(wrapper.fold()(x)), array(wrapper(x)), rtol=1e-4, atol=1e-6)
    assert [v.name for v in wrapper.weights][:3] == ["scale", "width", layer.weights[0].name]


@pytest.mark.parametrize("learnt", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_the_kernel_starts_at_the_values_of_the_initializer(name, learnt):
    keras.utils.set_random_seed(1)
    layer, x = case(name)
    layer(x)
    given = {v.path: array(v.value) for v in layer.weights}
    wrapper = WeightCompander(layer, scale=2.0, width=1.5, trainable=learnt)  # A pretrained layer.
    wrapper(x)
    for stored, effective in zip(layer.weights, wrapper.fold().weights):
        np.testing.assert_allclose(
            array(effective.value), given[stored.path], rtol=1e-5, atol=1e-6, err_msg=name
        )
        moved = np.any(array(stored.value) != given[stored.path])
        assert moved == (is_kernel(stored.name) and bool(given[stored.path].any()))


@pytest.mark.parametrize("build", ["call", "symbolic", "fit", "subclassed"])
def test_the_start_does_not_depend_on_how_the_layer_is_built(build):
    initializer = keras.initializers.RandomNormal(stddev=0.3, seed=3)
    x = inputs_of((8, 4))
    wrapper = WeightCompander(
        layers.Dense(2, kernel_initializer=initializer, kernel_regularizer="l2"), trainable=False
    )
    expected = array(initializer((4, 2)))
    if build == "call":
        wrapper(x)
    elif build == "symbolic":
        wrapper(keras.Input((4,)))
    else:
        model = keras.Sequential([wrapper]) if build == "fit" else Calls(wrapper)
        model.compile(keras.optimizers.SGD(0.0), "mse")
        loss = model.fit(x, x[:, :2], verbose=0).history["loss"][0]
        error = np.square(x @ expected - x[:, :2]).mean()
        assert loss == pytest.approx(error + 0.01 * np.square(expected).sum(), rel=1e-5)
    np.testing.assert_allclose(array(wrapper.fold().kernel.value), expected, rtol=1e-5, atol=1e-6)


class Calls(keras.Model):
    """A subclassed model, whose layers are built while it is traced."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, inputs):
        return self.layer(inputs)


def test_weights_beyond_the_bound_start_just_inside():
    layer = layers.Dense(3, use_bias=False, kernel_initializer=keras.initializers.Constant(5.0))
    wrapper = WeightCompander(layer, scale=0.5, width=1.0)
    wrapper(np.ones((2, 4), "float32"))
    kernel = array(wrapper.fold().kernel.value)
    assert np.all(kernel < 0.5 * np.pi / 2) and np.all(kernel > 0.998 * 0.5 * np.pi / 2)
    for dtype in ("bfloat16", "float16"):
        wrapper = WeightCompander(layers.Dense(3, kernel_initializer="ones", dtype=dtype), 0.5)
        wrapper(np.ones((2, 4), "float32"))
        assert np.all(np.isfinite(array(ops.cast(layer.kernel.value, "float32"))))


@pytest.mark.parametrize("learnt", [True, False])
def test_a_regularizer_sees_the_effective_kernel_if_it_is_fixed(learnt, tmp_path):
    layer = layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.1))
    wrapper = WeightCompander(layer, scale=0.5, width=0.3, trainable=learnt)
    model = keras.Sequential([keras.Input((4,)), wrapper])
    stored = array(layer.kernel.value)
    seen = stored if learnt else compand(stored, 0.5, 0.3)
    penalty = 0.1 * np.square(seen).sum()
    assert float(array(sum(model.losses))) == pytest.approx(penalty, rel=1e-5)
    model.save(tmp_path / "model.keras")
    # The gradient goes through.
    model.compile(keras.optimizers.SGD(1.0), lambda t, p: 0.0 * ops.sum(p, axis=-1))
    model.fit(inputs_of((8, 4)), inputs_of((8, 3)), verbose=0)
    slope = 1.0 if learnt else (0.5 / 0.3) / (1 + (stored / 0.3) ** 2)
    np.testing.assert_allclose(
        array(layer.kernel.value), stored - 0.2 * seen * slope, rtol=1e-4, atol=1e-6
    )
    restored = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert float(array(sum(restored.losses))) == pytest.approx(penalty, rel=1e-5)
    folded = restored.layers[0].fold()
    assert isinstance(folded.kernel.regularizer, keras.regularizers.L2)
    assert isinstance(folded.kernel_regularizer, keras.regularizers.L2)


def test_scalars_are_learnt_or_not():
    x = inputs_of((16, 4))
    for trainable in (True, False):
        wrapper = WeightCompander(layers.Dense(2), 0.5, 0.4, trainable=trainable)
        model = keras.Sequential([keras.Input((4,)), wrapper])
        model.compile(keras.optimizers.SGD(0.5), "mse")
        before = model.get_weights()
        model.fit(x, x[:, :2], epochs=2, verbose=0)
        moved = [bool((a != b).any()) for a, b in zip(before, model.get_weights())]
        assert moved == [trainable, trainable, True, True]
        assert len(wrapper.trainable_variables) == (4 if trainable else 2)


def test_compander_is_saved(tmp_path):
    wrapper = WeightCompander(layers.Dense(2), 0.5, 0.4, trainable=False)
    model = keras.Sequential([keras.Input((4,)), WeightCompander(layers.Dense(3)), wrapper])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x = inputs_of((16, 4))
    model.fit(x, x[:, :2], epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(restored.predict(x, verbose=0), model.predict(x, verbose=0))
    config = restored.layers[1].get_config()
    assert (config["scale"], config["width"], config["trainable"]) == (0.5, 0.4, False)
    assert len(restored.trainable_variables) == len(model.trainable_variables) == 6
    assert json.dumps(config)


def test_a_frozen_compander_stays_frozen():
    wrapper = WeightCompander(layers.Dense(2))
    wrapper.build((None, 3))
    wrapper.trainable = False
    copy = WeightCompander.from_config(wrapper.get_config())
    copy.build((None, 3))
    assert copy.trainable_variables == []


def test_registered_names():
    for cls in (Reparameterized, WeightCompander):
        name = keras.saving.get_registered_name(cls)
        assert name == f"keras_regularize.layers>{cls.__name__}"


def test_compander_bad_arguments():
    for name in ("scale", "width"):
        with pytest.raises(ValueError, match=f"`{name}` must be a number above 0"):
            WeightCompander(layers.Dense(2), **{name: -1.0})
        with pytest.raises(ValueError, match=f"`{name}` must be a number above 0"):
            WeightCompander(layers.Dense(2), **{name: 0.0})
    with pytest.raises(ValueError, match="needs a layer with a kernel.*gamma"):
        WeightCompander(layers.BatchNormalization())(inputs_of((2, 3)))


def digits():
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = (x[order] / 16).astype("float32"), y[order]
    return (x[:300], y[:300]), (x[300:], y[300:])


def test_companded_kernels_are_bounded_and_leave_zero():
    """From the same kernels, with the same decay: fixed, the largest is smaller; learnt, few are near zero."""
    (x, y), test = digits()
    results = {}
    for name, wrap in (
        ("plain", lambda layer: layer),
        ("fixed", lambda layer: WeightCompander(layer, 1.0, 0.6, trainable=False)),
        ("learnt", WeightCompander),
    ):
        keras.utils.set_random_seed(0)
        hidden = wrap(
            layers.Dense(64, activation="relu", kernel_regularizer=keras.regularizers.L2(1e-4))
        )
        model = keras.Sequential([keras.Input((64,)), hidden, wrap(layers.Dense(10))])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.1, 0.9), loss, metrics=["accuracy"])
        model.fit(x, y, batch_size=50, epochs=40, verbose=0)
        layer = hidden if name == "plain" else hidden.fold()
        kernel = np.abs(array(layer.kernel.value))
        results[name] = model.evaluate(*test, verbose=0)[1], kernel.max(), np.mean(kernel < 0.02)
    accuracies, largest, near_zero = zip(*results.values())
    assert min(accuracies[1:]) > accuracies[0] - 0.01
    assert largest[1] < 0.97 * largest[0]  # A learnt scale grows.
    assert near_zero[2] < 0.5 * near_zero[0]
