"""A model as a function of its weights, against what Keras itself computes and stores."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import ops, tree

import keras_regularize as kr
from keras_regularize.autodiff import Batch, Forward
from keras_regularize.autodiff.compiled_losses import sample_losses
from keras_regularize.autodiff.functional import read_state
from tests.helpers import array, divided

pytestmark = pytest.mark.everywhere

BACKEND = keras.backend.backend()


def arrays(structure):
    return [array(leaf) for leaf in tree.flatten(structure)]


def values(variables):
    return [array(v.value) for v in variables]


def compiled(fn):
    if BACKEND == "jax":
        import jax

        return jax.jit(fn)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(fn)
    return fn


class Penalty(keras.layers.Layer):
    """Identity that adds its own loss."""

    def call(self, x):
        self.add_loss(0.3 * ops.mean(x**2))
        return x


def everything(learning_rate=0.0, last="softmax"):
    """A model with every kind of loss and state: penalties, batch statistics, dropout."""
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(5, "tanh", kernel_regularizer=keras.regularizers.L2(0.1)),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.4),
            keras.layers.Dropout(0.2, seed=3),
            keras.layers.Dense(5, "tanh", activity_regularizer=keras.regularizers.L2(0.2)),
            Penalty(),
            keras.layers.Dense(3, last),
        ]
    )
    model.compile(keras.optimizers.SGD(learning_rate), "sparse_categorical_crossentropy")
    return model


def data(rows=6, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 4)).astype("float32")
    return x, rng.integers(0, 3, rows), rng.uniform(0.5, 2.0, rows).astype("float32")


def batch_of(x, y, sample_weight=None):
    return Batch(*(None if a is None else ops.convert_to_tensor(a) for a in (x, y, sample_weight)))


def affine(l2=0.1, activity=0.2, **layer):
    """`(model, loss)`: a linear regression with penalties, and its loss in NumPy."""
    model = keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(
                2,
                kernel_regularizer=keras.regularizers.L2(l2),
                activity_regularizer=keras.regularizers.L2(activity),
                **layer,
            ),
        ]
    )
    model.compile("sgd", "mse")

    def loss(w, x, y, sample_weight=1.0):
        outputs = x @ w[0] + w[1]
        fit = np.mean(sample_weight * np.mean((outputs - y) ** 2, axis=1))
        return fit + l2 * np.sum(w[0] ** 2) + divided(activity * np.sum(outputs**2), len(x))

    return model, loss


def current_loss(model, batch):
    weights = [ops.convert_to_tensor(v) for v in model.trainable_variables]
    return compiled(lambda weights: Forward(model, weights).loss(batch))(weights)


# Forward.loss


@pytest.mark.parametrize("weighted", [False, True])
def test_loss_is_that_of_train_on_batch(weighted):
    model, (x, y, sample_weight) = everything(), data()
    batch = batch_of(x, y, sample_weight if weighted else None)
    found = array(current_loss(model, batch))
    expected = model.train_on_batch(x, y, sample_weight if weighted else None)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_weights_that_depend_on_the_outputs():
    model, loss = affine()
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 4)).astype("float32"), rng.normal(size=(6, 2)).astype("float32")
    w = values(model.trainable_variables)
    weight = np.abs(x @ w[0] + w[1])[:, 0]
    batch = batch_of(x, y).reweight(lambda outputs: ops.abs(outputs[:, 0]))
    forward = Forward(model)
    np.testing.assert_allclose(array(forward.loss(batch)), loss(w, x, y, weight), rtol=1e-5)
    squares = np.sum((x @ w[0] + w[1]) ** 2, axis=1)
    found = forward.sample_mean(ops.sum(forward.outputs**2, axis=1), batch)
    np.testing.assert_allclose(array(found), np.mean(weight * squares), rtol=1e-5)


def test_penalties_are_the_loss_without_the_compiled_one():
    model, (x, y, sample_weight) = everything(), data()
    batch = batch_of(x, y, sample_weight)
    forward = Forward(model)
    penalties, loss = array(forward.penalties(batch)), array(Forward(model).loss(batch))
    fit = array(forward.sample_mean(forward.sample_losses(batch.y, forward.outputs), batch))
    assert forward.updates
    np.testing.assert_allclose(penalties + fit, loss, rtol=1e-5)
    assert 0 < penalties < loss


def test_gradient_and_updates_are_those_of_train_on_batch():
    model, (x, y, sample_weight) = everything(learning_rate=1.0), data()
    weights, state = values(model.trainable_variables), read_state(model)
    batch = batch_of(x, y, sample_weight)

    def loss(w):
        forward = Forward(model, w)
        return forward.loss(batch), forward.updates

    tensors = [ops.convert_to_tensor(w) for w in weights]
    gradient, updates = compiled(kr.autodiff.grad(loss, has_aux=True))(tensors)
    model.train_on_batch(x, y, sample_weight)
    for before, after, slope in zip(weights, values(model.trainable_variables), arrays(gradient)):
        np.testing.assert_allclose(before - after, slope, rtol=1e-3, atol=1e-5)
    moved = {getattr(state[int(i)][0], "path", ""): value for i, value in updates.items()}
    moved = {path: array(value) for path, value in moved.items() if path}
    names = {path.split("/")[-1] for path in moved}
    assert {"moving_mean", "moving_variance", "seed_generator_state"} <= names
    for variable, _ in state:
        if any(variable is v for v in model.non_trainable_variables) and variable.path in moved:
            np.testing.assert_allclose(array(variable.value), moved[variable.path], rtol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_penalties_are_those_of_the_given_weights(weighted):
    model, loss = affine()
    rng = np.random.default_rng(1)
    x, y, sample_weight = rng.normal(size=(5, 4)), rng.normal(size=(5, 2)), rng.uniform(size=5)
    w = [rng.normal(size=(4, 2)), rng.normal(size=2)]
    sample_weight = sample_weight if weighted else None
    batch = batch_of(*(None if a is None else a.astype("float32") for a in (x, y, sample_weight)))
    tensors = [ops.convert_to_tensor(v, "float32") for v in w]

    def at(weights):
        return Forward(model, weights).loss(batch)

    numbers = [x, y] if sample_weight is None else [x, y, sample_weight]
    for run in (lambda f: f, compiled):
        value, gradient = run(kr.autodiff.value_and_grad(at))(tensors)
        np.testing.assert_allclose(array(value), loss(w, *numbers), rtol=1e-5)
        for i in range(2):
            direction = [rng.normal(size=v.shape) if j == i else 0 * v for j, v in enumerate(w)]
            step = 1e-5
            up, down = (
                loss([v + sign * step * d for v, d in zip(w, direction)], *numbers)
                for sign in (1, -1)
            )
            slope = np.sum(direction[i] * arrays(gradient)[i])
            np.testing.assert_allclose(slope, (up - down) / (2 * step), rtol=1e-3, atol=1e-4)


class Doubled(keras.Model):
    """Twice the compiled loss, plus a reading of a weight."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2, use_bias=False)

    def call(self, x):
        return self.dense(x)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        assert training
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        return 2 * loss + ops.sum(self.dense.kernel)


class DoubledWithoutTraining(Doubled):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        return super().compute_loss(x, y, y_pred, sample_weight)


@pytest.mark.parametrize("model_class", [Doubled, DoubledWithoutTraining])
def test_an_overridden_compute_loss_acts(model_class):
    model = model_class()
    model.compile("sgd", "mse")
    x, y = np.ones((3, 4), "float32"), np.zeros((3, 2), "float32")
    model(x)
    kernel = np.random.default_rng(0).normal(size=(4, 2)).astype("float32")
    found = Forward(model, [ops.convert_to_tensor(kernel)]).loss(batch_of(x, y))
    np.testing.assert_allclose(
        array(found), 2 * np.mean((x @ kernel) ** 2) + kernel.sum(), rtol=1e-5
    )


def test_several_outputs_and_dictionary_inputs():
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    joined = keras.layers.Dense(4, "tanh")(keras.layers.Concatenate()([a, b]))
    outputs = {"u": keras.layers.Dense(2, name="u")(joined), "v": keras.layers.Dense(1)(joined)}
    model = keras.Model({"a": a, "b": b}, outputs)
    model.compile(
        keras.optimizers.SGD(0.0), {"u": "mse", "v": "mae"}, loss_weights={"u": 2, "v": 3}
    )
    rng = np.random.default_rng(0)
    x = {"a": rng.normal(size=(5, 3)), "b": rng.normal(size=(5, 2))}
    y = {"u": rng.normal(size=(5, 2)), "v": rng.normal(size=(5, 1))}
    x, y = (tree.map_structure(lambda t: t.astype("float32"), s) for s in (x, y))
    forward = Forward(model)
    found = forward.loss(Batch(*tree.map_structure(ops.convert_to_tensor, (x, y))))
    predicted = model.predict(x, verbose=0)
    for name in ("u", "v"):
        np.testing.assert_allclose(array(forward.outputs[name]), predicted[name], rtol=1e-4)
    expected = 2 * np.mean((predicted["u"] - y["u"]) ** 2) + 3 * np.mean(
        np.abs(predicted["v"] - y["v"])
    )
    np.testing.assert_allclose(array(found), expected, rtol=1e-5)
    np.testing.assert_allclose(model.train_on_batch(x, y)[0], expected, rtol=1e-5)


# What a pass leaves behind


def test_the_model_is_left_unchanged():
    model, (x, y, _) = everything(), data()
    model.train_on_batch(x, y)
    before = values([*model.variables, *model.metrics_variables])

    def loss(w):
        forward = Forward(model, w)
        forward(x, training=True)
        return forward.loss(batch_of(x, y))

    compiled(kr.autodiff.grad(loss))(
        [ops.convert_to_tensor(w + 1) for w in values(model.trainable_variables)]
    )
    after = values([*model.variables, *model.metrics_variables])
    assert len(before) == len(after)
    for a, b in zip(before, after):
        np.testing.assert_array_equal(a, b)
    found = array(current_loss(model, batch_of(x, y)))
    model.reset_metrics()
    np.testing.assert_allclose(model.train_on_batch(x, y), found, rtol=1e-5)


def test_every_pass_sees_the_same_dropout():
    model = keras.Sequential([keras.Input((50,)), keras.layers.Dropout(0.5)])
    model.compile("sgd", "mse")
    x = ops.ones((3, 50))
    forward = Forward(model)
    first = array(forward(x, training=True))
    assert (first == 0).any() and (first != 0).any()
    np.testing.assert_array_equal(array(forward(x, training=True)), first)
    forward.loss(Batch(x, ops.zeros((3, 50))))
    np.testing.assert_array_equal(array(forward.outputs), first)
    keras.layers.Dropout(0.5)(x, training=True)  # draws from what dropout without a seed shares
    np.testing.assert_array_equal(array(forward(x, training=True)), first)
    np.testing.assert_array_equal(array(forward(x)), np.ones((3, 50)))

    state = read_state(model)
    for position, value in forward.updates.items():
        state[int(position)][0].assign(value)
    assert (array(Forward(model)(x, training=True)) != first).any()


def test_updates_are_those_of_the_first_loss():
    model = keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization(momentum=0.9)])
    model.compile("sgd", "mse")
    rng = np.random.default_rng(0)
    x, other = (rng.normal(size=(8, 2)).astype("float32") for _ in range(2))
    forward = Forward(model)
    forward(other, training=True)
    assert forward.updates is None and forward.outputs is None
    forward.loss(batch_of(x, x))
    outputs = forward.outputs
    forward.loss(batch_of(other, other))
    forward(other, training=True)
    assert forward.outputs is outputs
    variables = [*model.non_trainable_variables, *model.metrics_variables]
    moved = {v.name: forward.updates.get(str(i)) for i, v in enumerate(variables)}
    moved = {name: array(value) for name, value in moved.items() if value is not None}
    np.testing.assert_allclose(moved["moving_mean"], 0.1 * x.mean(axis=0), rtol=1e-4, atol=1e-6)
    expected = 0.9 + 0.1 * x.var(axis=0)
    np.testing.assert_allclose(moved["moving_variance"], expected, rtol=1e-4)
    np.testing.assert_array_equal(array(model.layers[0].moving_mean.value), [0.0, 0.0])


@pytest.mark.skipif(BACKEND == "jax", reason="Keras itself loses masks behind a JAX gradient")
def test_outputs_keep_their_mask():
    model = keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            keras.layers.Embedding(4, 2, mask_zero=True),
            keras.layers.Dense(2),
        ]
    )
    model.compile("sgd", "mse", weighted_metrics=["mae"])
    tokens, y = np.array([[1, 0, 0], [1, 2, 3]]), np.ones((2, 3, 2), "float32")
    batch = batch_of(tokens, y)

    def step(data):
        def loss(w):
            forward = Forward(model, w)
            return forward.loss(batch), forward.outputs

        weights = [ops.convert_to_tensor(v) for v in model.trainable_variables]
        _, outputs = kr.autodiff.grad(loss, has_aux=True)(weights)
        return model.compute_metrics(None, batch.y, outputs)

    found = kr.autodiff.backend.train_step(model, step, [None])
    expected = model.evaluate(tokens, y, verbose=0, return_dict=True)
    np.testing.assert_allclose(array(found["mae"]), expected["mae"], rtol=1e-5)


def test_outputs_at():
    model, (x, y, _) = everything(), data()
    x = ops.convert_to_tensor(x)
    forward = Forward(model)
    np.testing.assert_array_equal(array(forward.outputs_at(x)), array(forward(x, training=True)))
    forward.loss(Batch(x, ops.convert_to_tensor(y)))
    assert forward.outputs_at(x) is forward.outputs
    other = x + 1.0
    np.testing.assert_array_equal(
        array(forward.outputs_at(other)), array(forward(other, training=True))
    )


# Weights, state, inputs


def test_given_weights_and_state():
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(2), keras.layers.BatchNormalization(epsilon=0.0)]
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 2)).astype("float32")
    kernel, bias, gamma, beta, mean = (
        rng.normal(size=s).astype("float32") for s in ((2, 2), 2, 2, 2, 2)
    )
    variance = np.float32([2.0, 3.0])
    given = {"moving_mean": mean, "moving_variance": variance}
    state = [(v, ops.convert_to_tensor(given[v.name])) for v in model.non_trainable_variables]
    forward = Forward(model, [ops.convert_to_tensor(v) for v in (kernel, bias, gamma, beta)], state)
    expected = (x @ kernel + bias - mean) / np.sqrt(variance) * gamma + beta
    np.testing.assert_allclose(array(forward(x)), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(array(Forward(model)(x)), model.predict(x, verbose=0), rtol=1e-5)


def test_weight_by_variable():
    model, _ = affine()
    kernel, bias = model.trainable_variables
    weights = [ops.ones((4, 2)), ops.zeros((2,))]
    forward = Forward(model, weights)
    assert forward.weight(kernel) is weights[0]
    assert forward.weight(bias) is weights[1]
    with pytest.raises(ValueError, match="`variable` must be a trainable variable"):
        forward.weight(keras.Variable(1.0))


def test_frozen_layers_are_state():
    model, (x, y, _) = everything(learning_rate=0.0), data()
    for layer in model.layers[:2]:
        layer.trainable = False
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    weights = [v.value for v in model.trainable_variables]
    assert len(weights) == 4
    batch = batch_of(x, y)
    value, gradient = compiled(kr.autodiff.value_and_grad(lambda w: Forward(model, w).loss(batch)))(
        weights
    )
    assert [g.shape for g in gradient] == [w.shape for w in weights]
    np.testing.assert_allclose(array(value), model.train_on_batch(x, y), rtol=1e-5)


def test_inputs_are_picked_from_the_batch():
    model, loss = affine()
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 4)).astype("float32"), rng.normal(size=(5, 2)).astype("float32")
    batch = batch_of(x, y)
    forward = Forward(model, inputs=lambda batch: 2 * batch.x)
    w = values(model.trainable_variables)
    np.testing.assert_allclose(array(forward.loss(batch)), loss(w, 2 * x, y), rtol=1e-5)


def test_default_weights_are_constants():
    # Also where an outer derivative with respect to the very variables is being taken.
    model, _ = affine()
    variables = model.trainable_variables
    x = ops.ones((3, 4))

    def fn(w):
        with keras.StatelessScope(state_mapping=list(zip(variables, w))):
            connected = ops.sum(model(x))
            constant = ops.sum(Forward(model)(x))
        return connected + 100.0 * constant

    kernel, bias = kr.autodiff.grad(fn)([ops.convert_to_tensor(v) for v in variables])
    np.testing.assert_allclose(array(kernel), np.full((4, 2), 3.0))
    np.testing.assert_allclose(array(bias), [3.0, 3.0])


# sample_losses

CLASSES = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def classification(rows=4, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    logits, y = rng.normal(size=(rows, classes)), rng.integers(0, classes, rows)
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logits.astype("float32"), y, -log_p[np.arange(rows), y]


def test_sample_losses_of_objects_names_and_functions():
    logits, y, expected = classification()
    probabilities = array(ops.softmax(logits))
    for given, outputs in [
        (CLASSES, logits),
        ("sparse_categorical_crossentropy", probabilities),
        (keras.losses.sparse_categorical_crossentropy, probabilities),
        ([CLASSES], logits),
        ({"out": CLASSES}, logits),
    ]:
        for labels in (y, y[:, None]):
            found = array(sample_losses(given, labels, outputs))
            assert found.shape == (4,)
            np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_sample_losses_ignore_reduction_weights_and_penalties():
    model, _ = affine()
    model.compile("sgd", keras.losses.MeanSquaredError(reduction="sum"))
    outputs, y = np.float32([[1, 2], [3, 4]]), np.float32([[1, 0], [0, 0]])
    found = Forward(model).sample_losses(y, outputs)
    np.testing.assert_allclose(array(found), [2.0, 12.5])


def test_sample_losses_are_averaged_over_positions():
    outputs, y = np.float32([[[1.0], [3.0]], [[0.0], [2.0]]]), np.zeros((2, 2, 1), "float32")
    np.testing.assert_allclose(array(sample_losses("mse", y, outputs)), [5.0, 2.0])


def test_sample_losses_of_several_outputs_are_added():
    a, b, y = np.float32([[1.0], [2.0]]), np.float32([[3.0], [4.0]]), np.zeros((2, 1), "float32")
    mse, mae = keras.losses.MeanSquaredError(), "mae"
    for loss, labels, outputs, expected in [
        ({"a": mse, "b": mae}, {"a": y, "b": y}, {"a": a, "b": b}, [4.0, 8.0]),
        ([mse, mae], [y, y], [a, b], [4.0, 8.0]),
        (mse, [y, y], [a, b], [10.0, 20.0]),
        (mse, {"a": y, "b": y}, {"a": a, "b": b}, [10.0, 20.0]),
        ({"a": mse, "b": None}, {"a": y, "b": y}, {"a": a, "b": b}, [1.0, 4.0]),
        ({"b": mae}, {"b": y}, {"a": a, "b": b}, [3.0, 4.0]),
    ]:
        np.testing.assert_allclose(array(sample_losses(loss, labels, outputs)), expected)


def test_sample_losses_by_output_name():
    inputs = keras.Input((1,))
    outputs = [keras.layers.Dense(1, name=name)(inputs) for name in ("first", "second")]
    model = keras.Model(inputs, outputs)
    model.compile("sgd", {"second": "mae", "first": "mse"})
    a, b, y = np.float32([[1.0], [2.0]]), np.float32([[3.0], [4.0]]), np.zeros((2, 1), "float32")
    for labels in ([y, y], {"first": y, "second": y}):
        found = Forward(model).sample_losses(labels, [a, b])
        np.testing.assert_allclose(array(found), [4.0, 8.0])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sample_losses_keep_large_class_ids_in_half_precision(dtype):
    # 2049 is no float16, 257 no bfloat16.
    ids = np.array([257, 2049])
    logits = np.zeros((2, 2050), "float32")
    logits[np.arange(2), ids] = 50.0
    found = array(sample_losses(CLASSES, ids, ops.cast(logits, dtype)))
    np.testing.assert_allclose(found, [0.0, 0.0], atol=1e-4)


def test_sample_losses_of_nothing():
    with pytest.raises(ValueError, match=r"needs `compile\(loss=…\)`"):
        sample_losses(None, np.zeros(2), np.zeros((2, 1)))
    assert sample_losses("mse", np.zeros((0, 2)), np.zeros((0, 2))).shape == (0,)
    with pytest.raises(ValueError, match="must give a value per sample"):
        sample_losses(lambda y, p: ops.mean(y - p), np.zeros((2, 1)), np.zeros((2, 1)))


# Batch


def test_batch_is_immutable():
    batch = Batch(1, y=2, columns={"index": 3})
    with pytest.raises(dataclasses.FrozenInstanceError):
        batch.x = 2
    changed = batch.replace(x=5)
    assert (batch.x, changed.x, changed.y, changed.columns) == (1, 5, 2, {"index": 3})
    more = batch.add(a=1).add(b=2, a=3)
    assert batch.extra == {} and more.extra == {"a": 3, "b": 2}
    assert Batch(1).extra is not Batch(1).extra


def test_outputs_come_with_the_penalties_of_their_pass():
    dense = keras.layers.Dense(
        2, kernel_regularizer=keras.regularizers.L2(0.5), activity_regularizer="l1"
    )
    model = keras.Sequential([keras.Input((3,)), dense])
    x = np.ones((4, 3), "float32")
    weights = [2.0 * v.value for v in model.trainable_variables]
    outputs, penalties = Forward(model, weights).outputs_and_penalties(x)
    expected = x @ (2 * dense.get_weights()[0])
    np.testing.assert_allclose(array(outputs), expected, rtol=1e-5)
    penalty = 0.5 * np.sum((2 * dense.get_weights()[0]) ** 2) + 0.01 * np.abs(expected).sum() / 4
    assert float(array(penalties)) == pytest.approx(penalty, rel=1e-4)
