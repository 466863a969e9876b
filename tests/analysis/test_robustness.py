"""Accuracy under attack: an oracle for linear models, the worst case, order, wrappers, errors."""

import keras
import numpy as np
import pytest

import keras_regularize as kr
from keras_regularize.analysis import robust_accuracy

WEIGHTS = np.array([[1.0, -0.5, 0.2], [0.3, 0.8, -1.0]], "float32")


def linear_model(activation=None, compiled=True):
    layer = keras.layers.Dense(3, activation, use_bias=False)
    model = keras.Sequential([keras.Input((2,)), layer])
    layer.kernel.assign(WEIGHTS)
    if compiled:
        from_logits = activation is None
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits))
    return model


def data(n=100):
    generator = np.random.default_rng(1)
    x = generator.normal(size=(n, 2)).astype("float32")
    y = np.argmax(x @ WEIGHTS, axis=-1)
    wrong = generator.random(n) < 0.1
    return x, np.where(wrong, (y + 1) % 3, y)


def binary_model():
    """The score of class 1 is `2 x0 - x1`."""
    layer = keras.layers.Dense(1, use_bias=False)
    model = keras.Sequential([keras.Input((2,)), layer])
    layer.kernel.assign([[2.0], [-1.0]])
    model.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
    return model


def trained_model(x, y):
    model = keras.Sequential(
        [keras.Input(x.shape[1:]), keras.layers.Dense(16, "relu"), keras.layers.Dense(3)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.05), loss)
    model.fit(x, y, epochs=30, verbose=0)
    return model


def pgd(epsilon, **kwargs):
    settings = {"step_size": epsilon / 3, "steps": 5, "bounds": None, "seed": 0, **kwargs}
    return kr.attacks.PGD(epsilon=epsilon, **settings)


@pytest.mark.parametrize("epsilon", [0.0, 0.05, 0.2, 0.6])
@pytest.mark.parametrize("shape", ["ids", "column", "rows"])
def test_a_linear_binary_model_has_the_accuracy_of_the_formula(epsilon, shape):
    # The worst point of an L-infinity ball lowers the margin s·f(x) by epsilon·|w|_1.
    x = np.random.default_rng(0).normal(size=(77, 2)).astype("float32")
    y = (np.random.default_rng(1).random(77) < 0.5).astype("int32")
    margin = (2 * y - 1) * (x.astype("float64") @ [2.0, -1.0])
    expected = np.mean(margin > 3 * epsilon)
    labels = {"ids": y, "column": y[:, None], "rows": np.eye(2, dtype="float32")[y]}[shape]
    attack = kr.attacks.FGSM(epsilon=epsilon, bounds=None)
    accuracy = robust_accuracy(binary_model(), x, labels, attack, batch_size=32)
    assert accuracy == pytest.approx(expected, abs=1e-6)


def test_no_attack_strength_is_plain_accuracy():
    x, y = data()
    expected = np.mean(np.argmax(x @ WEIGHTS, axis=-1) == y)
    assert 0.8 < expected < 1.0
    accuracy = robust_accuracy(linear_model(), x, y, pgd(0.0))
    assert accuracy == pytest.approx(expected, abs=1e-6)


def test_it_falls_with_epsilon_and_never_exceeds_accuracy():
    x, y = data(150)
    model = trained_model(x, y)
    clean = np.mean(np.argmax(model.predict(x, verbose=0), axis=-1) == y)
    values = [robust_accuracy(model, x, y, pgd(e)) for e in (0.0, 0.02, 0.1, 0.3, 1.0)]
    assert values[0] == pytest.approx(clean, abs=1e-6)
    assert all(a >= b for a, b in zip(values, values[1:]))
    assert values[-1] < clean - 0.3


def test_an_attack_that_corrects_a_prediction_does_not_count():
    x, y = data()

    def helpful(model, x, y):
        # Moves every sample far to where its label is predicted.
        return 100.0 * keras.ops.take(keras.ops.convert_to_tensor(WEIGHTS.T), y, axis=0)

    clean = np.mean(np.argmax(x @ WEIGHTS, axis=-1) == y)
    accuracy = robust_accuracy(linear_model(), x, y, helpful)
    assert accuracy == pytest.approx(clean, abs=1e-6)


def test_a_list_is_the_worst_case_per_sample():
    model = linear_model()
    x = np.zeros((6, 2), "float32")
    x[:] = [1.0, 0.0]  # Class 0.
    y = np.zeros(6, "int32")
    targets = np.array([[1.0, 0.0], [0.0, -1.0]], "float32")  # Classes 0 and 2.

    def moves(rows):
        chosen = np.isin(np.arange(6), rows).astype("int32")
        table = keras.ops.convert_to_tensor(targets[chosen])
        return lambda model, x, y: table[: keras.ops.shape(x)[0]]

    def accuracy(attack):
        return robust_accuracy(model, x, y, attack)

    assert accuracy(moves([0, 1])) == pytest.approx(4 / 6)
    assert accuracy(moves([1, 2, 3])) == pytest.approx(3 / 6)
    assert accuracy([moves([0, 1]), moves([1, 2, 3])]) == pytest.approx(2 / 6)


@pytest.mark.parametrize("batch_size", [1, 7, 100, 1000])
def test_the_batch_size_does_not_matter(batch_size):
    x, y = data(21)
    attack = kr.attacks.FGSM(epsilon=0.2, bounds=None)
    one = robust_accuracy(linear_model(), x, y, attack, batch_size=21)
    assert 0 < one < 1
    other = robust_accuracy(linear_model(), x, y, attack, batch_size=batch_size)
    assert other == pytest.approx(one, abs=1e-6)


def test_probabilities_and_logits_agree():
    x, y = data()
    attack = kr.attacks.FGSM(epsilon=0.2, bounds=None)
    logits = robust_accuracy(linear_model(), x, y, attack)
    probabilities = robust_accuracy(linear_model("softmax"), x, y, attack)
    told = kr.attacks.FGSM(epsilon=0.2, bounds=None, from_logits=False)
    uncompiled = robust_accuracy(linear_model("softmax", False), x, y, told)
    assert logits == pytest.approx(probabilities) == pytest.approx(uncompiled)


def test_a_binary_model_of_probabilities():
    layer = keras.layers.Dense(1, "sigmoid", use_bias=False)
    model = keras.Sequential([keras.Input((2,)), layer])
    layer.kernel.assign([[2.0], [-1.0]])
    model.compile("sgd", "binary_crossentropy")
    x = np.random.default_rng(0).normal(size=(50, 2)).astype("float32")
    y = (x[:, 0] > 0).astype("int32")
    attack = kr.attacks.FGSM(epsilon=0.1, bounds=None)
    expected = robust_accuracy(binary_model(), x, y, attack)
    assert 0 < expected < 1
    assert robust_accuracy(model, x, y, attack) == pytest.approx(expected)


def test_wrappers_and_what_they_wrap_agree_and_stay_as_they_are():
    x, y = data(90)
    net = keras.Sequential(
        [
            keras.Input((2,)),
            keras.layers.Dense(8, "relu"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5, seed=0),
            keras.layers.Dense(3),
        ]
    )
    wrapper = kr.models.SAM(kr.models.AdversarialTraining(net, pgd(0.1)), rho=0.05)
    wrapper.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    wrapper.fit(x, y, epochs=2, verbose=0)
    before = [np.array(v) for v in wrapper.variables]
    attack = kr.attacks.FGSM(epsilon=0.1, bounds=None)
    outer = robust_accuracy(wrapper, x, y, attack, batch_size=32)
    inner = robust_accuracy(net, x, y, attack, batch_size=32)
    assert outer == inner
    for variable, value in zip(wrapper.variables, before):
        np.testing.assert_array_equal(np.array(variable), value)
    wrapper.fit(x, y, verbose=0)


def test_structured_inputs():
    x, y = data(40)
    parts = [keras.Input((1,), name="a"), keras.Input((1,), name="b")]
    joined = keras.layers.Concatenate()(parts)
    layer = keras.layers.Dense(3, use_bias=False)
    model = keras.Model({"a": parts[0], "b": parts[1]}, layer(joined))
    layer.kernel.assign(WEIGHTS)
    attack = kr.attacks.FGSM(epsilon=0.2, bounds=None)
    expected = robust_accuracy(linear_model(), x, y, attack)
    named = {"a": x[:, :1], "b": x[:, 1:]}
    assert robust_accuracy(model, named, y, attack) == pytest.approx(expected)


def test_token_ids_are_attacked_at_their_embedding():
    tokens = np.random.default_rng(0).integers(0, 5, (30, 4))
    y = tokens[:, 0] % 3
    model = keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            keras.layers.Embedding(5, 3, name="embedding"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(tokens, y, epochs=60, verbose=0)
    clean = np.mean(np.argmax(model.predict(tokens, verbose=0), axis=-1) == y)
    values = [
        robust_accuracy(
            model, tokens, y, kr.attacks.FGSM(epsilon=epsilon, bounds=None, layer="embedding")
        )
        for epsilon in (0.0, 0.02, 2.0)
    ]
    assert values[0] == pytest.approx(clean)
    assert values[0] >= values[1] >= values[2]
    assert values[2] < values[0]


def test_a_model_that_was_never_built():
    model = keras.Sequential([keras.layers.Dense(3)])
    x, y = data(10)
    accuracy = robust_accuracy(model, x, y, kr.attacks.FGSM(epsilon=0.0, bounds=None))
    expected = np.mean(np.argmax(model.predict(x, verbose=0), axis=-1) == y)
    assert accuracy == pytest.approx(expected)


def test_mixed_precision_does_not_round_the_inputs():
    keras.config.set_dtype_policy("mixed_float16")
    seen = []

    def look(model, x, y):
        seen.append(keras.backend.standardize_dtype(x.dtype))
        return x

    x, y = data(10)
    robust_accuracy(linear_model(), x, y, look)
    assert set(seen) == {"float32"}


@pytest.mark.parametrize("attack", [None, [], 3, [kr.attacks.FGSM(), None]])
def test_what_is_no_attack_is_an_error(attack):
    x, y = data(4)
    with pytest.raises(ValueError, match="`attack` must"):
        robust_accuracy(linear_model(), x, y, attack)


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (kr.attacks.VirtualAdversarial(), "must return perturbed inputs"),
        (kr.attacks.PGD(targeted=True), "a targeted attack would lead"),
    ],
)
def test_what_does_not_look_for_a_wrong_prediction_is_an_error(attack, message):
    x, y = data(4)
    with pytest.raises(ValueError, match=message):
        robust_accuracy(linear_model(), x, y, [kr.attacks.FGSM(), attack])


def test_a_bad_batch_size_is_an_error():
    x, y = data(4)
    with pytest.raises(ValueError, match="`batch_size` must be an integer of at least 1"):
        robust_accuracy(linear_model(), x, y, pgd(0.1), batch_size=0)


def test_no_samples_are_an_error():
    x, y = data(4)
    with pytest.raises(ValueError, match="at least one sample. Received none"):
        robust_accuracy(linear_model(), x[:0], y[:0], pgd(0.1))


def test_labels_that_do_not_fit_are_an_error_that_costs_no_weights():
    model = linear_model()
    x, _ = data(4)
    with pytest.raises(ValueError, match="Expected class labels"):
        robust_accuracy(model, x, np.zeros((4, 2)), pgd(0.1))
    np.testing.assert_array_equal(np.array(model.trainable_variables[0]), WEIGHTS)
