"""The virtual adversarial direction against closed forms of models with linear logits."""

import json

import keras
import numpy as np
import pytest
from counting import Passes, count, counting_model
from keras import ops

import keras_regularize as kr
from keras_regularize.autodiff import Forward
from tests.helpers import array, softmax

BACKEND = keras.backend.backend()
VirtualAdversarial = kr.attacks.VirtualAdversarial

INPUTS, CLASSES, ROWS = 5, 4, 6  # as in the tests of the other attacks, which saves compilations


def unit(d):
    return d / max(np.linalg.norm(d), 1e-30)


def cosine(a, b):
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    return np.sum(a * b, axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def linear(kernel, bias=0.0, last=None):
    model = keras.Sequential(
        [keras.Input((kernel.shape[0],)), keras.layers.Dense(kernel.shape[1], last)]
    )
    model.set_weights([kernel, np.zeros(kernel.shape[1]) + bias])
    return model


def problem(seed=0, inputs=INPUTS, classes=CLASSES, rows=ROWS):
    """Kernel, inputs and initial directions."""
    rng = np.random.default_rng(seed)
    shapes = ((inputs, classes), (rows, inputs), (rows, inputs))
    return [rng.normal(size=shape).astype("float32") for shape in shapes]


def curvature(kernel, x):
    """Hessian `K (diag p - p pᵀ) Kᵀ` of the divergence at zero, per sample."""
    p = softmax(x.astype("float64") @ kernel)
    return np.stack([kernel @ (np.diag(row) - np.outer(row, row)) @ kernel.T for row in p])


def power_iteration(kernel, x, d, epsilon, finite_difference, iterations):
    """The definition, sample by sample in float64."""
    found = []
    for row, direction in zip(x.astype("float64"), d.astype("float64")):
        p = softmax(row @ kernel)
        for _ in range(iterations):
            moved = row + finite_difference * unit(direction)
            direction = kernel @ (softmax(moved @ kernel) - p)
        found.append(epsilon * unit(direction))
    return np.stack(found)


# The definition


@pytest.mark.parametrize("iterations", [1, 3])
def test_power_iteration(iterations):
    kernel, x, d = problem()
    for finite_difference in (1e-2, 0.5):
        attack = VirtualAdversarial(0.7, finite_difference, iterations)
        found = attack(linear(kernel), x, initial_direction=d)
        expected = power_iteration(kernel, x, d, 0.7, finite_difference, iterations)
        np.testing.assert_allclose(array(found), expected, rtol=1e-2, atol=2e-3)


def test_closed_form_for_linear_logits():
    kernel, x, d = problem(1)
    expected = np.einsum("nij,nj->ni", curvature(kernel, x), d)
    errors = []
    for finite_difference in (1.0, 0.1, 0.01):
        attack = VirtualAdversarial(1.0, finite_difference)
        found = array(attack(linear(kernel), x, initial_direction=d))
        errors.append(np.max(1 - cosine(found, expected)))
    assert errors[0] > errors[1] and errors[2] < 1e-4


def test_iterations_approach_the_dominant_eigenvector():
    kernel, x, d = problem(2)
    hessians = curvature(kernel, x)
    quotients = []
    for iterations in (1, 2, 4, 16):
        attack = VirtualAdversarial(1.0, 1e-2, iterations)
        found = array(attack(linear(kernel), x, initial_direction=d))
        quotients.append(np.einsum("ni,nij,nj->n", found, hessians, found))
    assert (np.diff(quotients, axis=0) > -1e-3 * quotients[0]).all()
    assert (quotients[-1] > quotients[0]).any()
    values, vectors = np.linalg.eigh(hessians)
    assert (quotients[-1] > 0.9 * values[:, -1]).all()
    assert (quotients[-1] < 1.0001 * values[:, -1]).all()
    assert np.median(np.abs(cosine(found, vectors[:, :, -1]))) > 0.99


def test_a_hidden_layer_is_differentiated():
    kernel, x, d = problem(3)
    first = np.random.default_rng(9).normal(size=(INPUTS, INPUTS)).astype("float32")
    model = keras.Sequential(
        [
            keras.Input((INPUTS,)),
            keras.layers.Dense(INPUTS, "tanh", use_bias=False),
            keras.layers.Dense(CLASSES, use_bias=False),
        ]
    )
    model.set_weights([first, kernel])
    found = array(VirtualAdversarial(1.0)(model, x, initial_direction=d))
    expected = []
    for row, direction in zip(x, d):
        hidden = np.tanh(row @ first)
        jacobian = first * (1 - hidden**2) @ kernel
        p = softmax(hidden @ kernel)
        expected.append(jacobian @ (np.diag(p) - np.outer(p, p)) @ jacobian.T @ direction)
    assert cosine(found, np.stack(expected)).min() > 0.999


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 8.0])
def test_the_norm_is_epsilon(epsilon):
    kernel, x, _ = problem()
    found = array(VirtualAdversarial(epsilon)(linear(kernel), x))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), epsilon, rtol=1e-4)
    image = keras.Sequential(
        [keras.Input((1, 5, 1)), keras.layers.Flatten(), keras.layers.Dense(CLASSES)]
    )
    found = array(VirtualAdversarial(epsilon)(image, x.reshape(ROWS, 1, 5, 1)))
    assert found.shape == (ROWS, 1, 5, 1)
    norms = np.sqrt(np.sum(found**2, axis=(1, 2, 3)))
    np.testing.assert_allclose(norms, epsilon, rtol=1e-4)


def test_tiny_gradients_are_scaled_up():
    kernel, x, d = problem()
    found = array(VirtualAdversarial(1.0)(linear(1e-4 * kernel), x, initial_direction=d))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, rtol=1e-4)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_constant_model_has_no_direction(dtype):
    kernel, x, _ = problem()
    for bias in (0.0, np.float32([3.0, -100.0, 0.0, 1e4])):
        model = linear(0 * kernel, bias)
        found = VirtualAdversarial(1.0, iterations=2)(model, ops.cast(x, dtype))
        np.testing.assert_array_equal(array(ops.cast(found, "float32")), np.zeros_like(x))


# Invariances


def test_a_constant_added_to_the_logits_changes_nothing():
    kernel, x, d = problem()
    attack = VirtualAdversarial(1.0, 0.1, 2)
    plain = array(attack(linear(kernel), x, initial_direction=d))
    shifted = array(attack(linear(kernel, 5.0), x, initial_direction=d))
    np.testing.assert_allclose(plain, shifted, rtol=1e-2, atol=1e-3)
    scaled = array(attack(linear(kernel), x, initial_direction=7.0 * d))
    np.testing.assert_allclose(plain, scaled, rtol=1e-2, atol=1e-3)


def test_the_direction_of_a_sample_does_not_depend_on_the_batch():
    kernel, x, d = problem()
    attack = VirtualAdversarial(1.0, 0.1)
    together = array(attack(linear(kernel), x, initial_direction=d))
    alone = array(attack(linear(kernel), x[2:3], initial_direction=d[2:3]))
    np.testing.assert_allclose(alone, together[2:3], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("last", [None, "sigmoid"])
def test_binary_models_of_one_column(last):
    kernel, x, d = problem(classes=1)
    model = linear(kernel, last=last)
    model.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=last is None))
    found = array(VirtualAdversarial(2.0)(model, x, initial_direction=d))
    # The one direction that changes a single logit.
    expected = 2.0 * np.sign(d @ kernel) * kernel.T / np.linalg.norm(kernel)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_probabilities_are_read_from_the_compiled_loss():
    kernel, x, d = problem()
    model = linear(kernel, last="softmax")
    model.compile("sgd", "sparse_categorical_crossentropy")
    expected = power_iteration(kernel, x, d, 1.0, 0.5, 1)
    found = VirtualAdversarial(1.0, 0.5)(model, x, initial_direction=d)
    np.testing.assert_allclose(array(found), expected, rtol=1e-2, atol=1e-3)
    told = VirtualAdversarial(1.0, 0.5, from_logits=False)
    found = told(linear(kernel, last="softmax"), x, initial_direction=d)
    np.testing.assert_allclose(array(found), expected, rtol=1e-2, atol=1e-3)


# Inputs


def test_several_inputs_share_one_norm():
    kernel, x, d = problem()
    split = {name: keras.Input(shape, name=name) for name, shape in (("a", (2,)), ("b", (3,)))}
    split["ids"] = keras.Input((), dtype="int32", name="ids")
    joined = keras.layers.Concatenate()([split["a"], split["b"]])
    logits = keras.layers.Dense(CLASSES, use_bias=False)(joined)
    logits = logits + keras.layers.Embedding(ROWS, CLASSES, "zeros")(split["ids"])
    model = keras.Model(split, logits)
    model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    next(v for v in model.trainable_variables if v.shape[0] == INPUTS).assign(kernel)

    def parts(v, ids):
        return {"a": v[:, :2], "b": v[:, 2:], "ids": ids}

    ids = np.arange(ROWS)
    found = VirtualAdversarial(1.0, 0.5, from_logits=True)(
        model, parts(x, ids), initial_direction=parts(d, np.zeros(ROWS))
    )
    expected = power_iteration(kernel, x, d, 1.0, 0.5, 1)
    np.testing.assert_allclose(array(found["a"]), expected[:, :2], rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(array(found["b"]), expected[:, 2:], rtol=1e-2, atol=1e-3)
    np.testing.assert_array_equal(array(found["ids"]), np.zeros(ROWS))
    assert "int" in keras.backend.standardize_dtype(found["ids"].dtype)


def test_the_output_of_an_embedding_is_perturbed():
    rng = np.random.default_rng(0)
    table, kernel, d = (rng.normal(size=s).astype("float32") for s in ((7, 2), (6, 4), (5, 3, 2)))
    tokens = rng.integers(0, 7, (5, 3))
    embedding = keras.layers.Embedding(7, 2, name="words")
    model = keras.Sequential(
        [
            keras.Input((3,), dtype="int32"),
            embedding,
            keras.layers.Flatten(),
            keras.layers.Dense(4, use_bias=False),
        ]
    )
    model.set_weights([table, kernel])
    flat = table[tokens].reshape(5, 6)
    expected = power_iteration(kernel, flat, d.reshape(5, 6), 0.6, 0.5, 2).reshape(5, 3, 2)
    for layer in ("words", embedding):
        attack = VirtualAdversarial(0.6, 0.5, 2, layer=layer)
        (found,) = attack(model, tokens, initial_direction=[d])
        np.testing.assert_allclose(array(found), expected, rtol=1e-2, atol=1e-3)
    (found,) = VirtualAdversarial(0.6, layer="words")(model, tokens)
    np.testing.assert_allclose(np.sqrt(np.sum(array(found) ** 2, axis=(1, 2))), 0.6, rtol=1e-4)
    with pytest.raises(ValueError, match="pass `layer=`.*dtype int"):
        VirtualAdversarial()(model, tokens)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_precisions(dtype):
    kernel, x, d = problem()
    x = ops.cast(x, dtype) if dtype != "float64" else ops.convert_to_tensor(x.astype("float64"))
    rounded = array(ops.cast(x, "float32"))
    found = VirtualAdversarial(0.5, 1e-2)(linear(kernel), x, initial_direction=d)
    assert found.dtype == x.dtype
    expected = power_iteration(kernel, rounded, d, 0.5, 1e-2, 1)
    # Half precision is that of the result alone: the search runs in float32.
    np.testing.assert_allclose(array(ops.cast(found, "float32")), expected, rtol=2e-2, atol=4e-3)


def test_empty_batch_and_batch_of_one():
    kernel, x, _ = problem()
    model = linear(kernel)
    assert array(VirtualAdversarial()(model, x[:0])).shape == (0, INPUTS)
    assert array(VirtualAdversarial()(model, x[:1])).shape == (1, INPUTS)


# State


def test_passes_in_training_mode_share_the_dropout_mask():
    kernel, x, d = problem()
    for seed in (None, 3):
        dropout = keras.layers.Dropout(0.5, seed=seed)
        model = keras.Sequential(
            [keras.Input((INPUTS,)), dropout, keras.layers.Dense(CLASSES, use_bias=False)]
        )
        model.set_weights([kernel])
        head = keras.Sequential([keras.Input((INPUTS,)), dropout])
        mask = array(Forward(head)(np.ones((ROWS, INPUTS), "float32"), training=True))
        found = array(VirtualAdversarial(1.0, 0.1)(model, x, training=True, initial_direction=d))
        np.testing.assert_array_equal(found[mask == 0], 0.0)
        for i in range(ROWS):
            seen = mask[i][:, None] * kernel
            expected = power_iteration(seen, x[i : i + 1], d[i : i + 1], 1.0, 0.1, 1)
            np.testing.assert_allclose(found[i : i + 1], expected, rtol=2e-2, atol=2e-3)
        found = array(VirtualAdversarial(1.0, 0.1)(model, x, initial_direction=d))
        assert (found != 0).all()  # at inference nothing is dropped


def test_the_model_is_left_unchanged():
    model = keras.Sequential(
        [
            keras.Input((INPUTS,)),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5, seed=1),
            keras.layers.Dense(CLASSES),
        ]
    )
    _, x, _ = problem()
    before = [array(v.value) for v in model.variables]
    VirtualAdversarial()(model, x, training=True)
    for a, b in zip(before, [array(v.value) for v in model.variables]):
        np.testing.assert_array_equal(a, b)


def test_seeds():
    kernel, x, _ = problem()
    model = linear(kernel)
    attack = VirtualAdversarial(1.0, seed=4)
    first, second = array(attack(model, x)), array(attack(model, x))
    assert (first != second).any(axis=1).all()
    np.testing.assert_array_equal(array(VirtualAdversarial(1.0, seed=4)(model, x)), first)
    assert (array(VirtualAdversarial(1.0, seed=5)(model, x)) != first).any()


def test_inside_jit():
    kernel, x, d = problem()
    model = linear(kernel)
    attack = VirtualAdversarial(1.0, 0.5, 2)

    def run(x, d):
        return attack(model, x, initial_direction=d)

    expected = power_iteration(kernel, x, d, 1.0, 0.5, 2)
    if BACKEND == "jax":
        import jax

        run = jax.jit(run)
    elif BACKEND == "tensorflow":
        import tensorflow as tf

        run = tf.function(run, input_signature=2 * [tf.TensorSpec((None, INPUTS))])
    np.testing.assert_allclose(array(run(x, d)), expected, rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(array(run(x[:2], d[:2])), expected[:2], rtol=1e-2, atol=1e-3)


# Arguments, config, cost


def test_bad_arguments():
    with pytest.raises(ValueError, match="`epsilon` must be a number at least 0.*epsilon=-1"):
        VirtualAdversarial(epsilon=-1)
    for step in (0.0, -1.0, "a"):
        with pytest.raises(ValueError, match="`finite_difference` must be"):
            VirtualAdversarial(finite_difference=step)
    for iterations in (0, 1.5):
        with pytest.raises(ValueError, match="`iterations` must be an integer of at least 1"):
            VirtualAdversarial(iterations=iterations)
    kernel, x, d = problem()
    with pytest.raises(ValueError, match="structure of what is perturbed"):
        VirtualAdversarial()(linear(kernel), x, initial_direction=[d, d])


def test_config_round_trip():
    attack = VirtualAdversarial(np.float32(2), np.float64(0.5), np.int64(3), "words", False, 9)
    serialized = keras.saving.serialize_keras_object(attack)
    assert serialized["registered_name"] == "keras_regularize.attacks>VirtualAdversarial"
    restored = keras.saving.deserialize_keras_object(json.loads(json.dumps(serialized)))
    expected = {
        "epsilon": 2.0,
        "finite_difference": 0.5,
        "iterations": 3,
        "layer": "words",
        "from_logits": False,
        "seed": 9,
        "inputs": None,
    }
    assert restored.get_config() == attack.get_config() == expected


@pytest.mark.parametrize("iterations", [1, 3])
def test_passes(iterations):
    model, counter = counting_model()
    x = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    attack = VirtualAdversarial(iterations=iterations)
    assert count(counter, lambda: attack(model, x)) == Passes(1 + iterations, iterations, 0)
    attack = VirtualAdversarial(iterations=iterations, layer=model.layers[0].name)
    assert count(counter, lambda: attack(model, x)) == Passes(2 + iterations, iterations, 0)
