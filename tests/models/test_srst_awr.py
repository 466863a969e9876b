"""Robust training under a teacher: the objective in float64, the teacher's state, missing labels."""

import keras
import numpy as np
import pytest
from counting import count, counting_model
from keras import layers, ops

import keras_regularize as kr

RNG = np.random.RandomState(0)
X = RNG.rand(10, 4).astype("float32")
Y = RNG.randint(0, 3, 10)
Y[[1, 4, 5, 6, 9]] = -1
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
FGSM = kr.attacks.FGSM(0.1)


def network(seed, last=None):
    keras.utils.set_random_seed(seed)
    hidden = layers.Dense(5, "tanh", kernel_regularizer="l2")
    return keras.Sequential([keras.Input((4,)), hidden, layers.Dense(3, last)])


def logged(model, y=Y, loss=LOSS, rate=0.0, **arguments):
    model.compile(keras.optimizers.SGD(rate), loss)
    return float(model.train_on_batch(X, y, **arguments))


def log_softmax(z):
    z = np.asarray(z, "float64")
    return (
        z
        - np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1, keepdims=True))
        - z.max(-1, keepdims=True)
    )


def logits(model, x=X):
    return ops.convert_to_numpy(model(x))


def kl(log_p, log_q):
    return np.sum(np.exp(log_p) * (log_p - log_q), axis=-1)


@pytest.mark.parametrize("labelled", ["some", "none", "rows"])
def test_the_objective_equals_the_formula(labelled):
    net, teacher = network(1), network(2)
    t = logits(teacher)
    attacked = FGSM(net, X, t.argmax(-1))
    z, z_attacked = logits(net), logits(net, attacked)
    log_p, log_q, p_t = log_softmax(z), log_softmax(z_attacked), np.exp(log_softmax(t))
    y = np.full(10, -1) if labelled == "none" else Y
    supervised = 0.0
    for i in np.flatnonzero(y >= 0):
        target = 0.7 * np.eye(3)[y[i]] + 0.3 / 3
        supervised -= target @ log_p[i] / np.sum(y >= 0)
    distilled = kl(log_softmax(t / 2.0), log_softmax(z / 2.0)).mean()
    weight = 0.4 * (p_t * np.exp(log_p)).sum(-1) + 0.6 * (1 - (p_t * np.exp(log_q)).sum(-1))
    robust = (weight * kl(log_p, log_q)).mean()
    penalty = 0.01 * np.sum(net.get_weights()[0] ** 2)
    expected = supervised + 3.0 * distilled + 5.0 * robust + penalty

    loss = LOSS
    if labelled == "rows":
        y = np.where(y[:, None] < 0, -1.0, np.eye(3)[y])
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model = kr.models.SRSTAWR(net, teacher, FGSM, 5.0, 3.0, 0.4, 2.0, 0.3)
    assert logged(model, y, loss) == pytest.approx(expected, rel=1e-5)
    assert robust > 1e-5


def test_sample_weights_count_in_every_term():
    arguments = {"factor": 5.0, "label_smoothing": 0.0}
    alone = kr.models.SRSTAWR(network(1), network(2), FGSM, **arguments)
    twice = kr.models.SRSTAWR(network(1), network(2), FGSM, **arguments)
    penalty = 0.01 * np.sum(network(1).get_weights()[0] ** 2)
    weighted = logged(twice, sample_weight=np.full(10, 2.0))
    assert weighted - penalty == pytest.approx(2 * (logged(alone) - penalty), rel=1e-5)


def test_probabilities_and_logits_agree():
    name = "sparse_categorical_crossentropy"
    a = kr.models.SRSTAWR(network(1), network(2), kr.attacks.FGSM(0.1))
    student, teacher = network(1, "softmax"), network(2, "softmax")
    teacher.compile("sgd", name)
    b = kr.models.SRSTAWR(student, teacher, kr.attacks.FGSM(0.1))
    assert logged(a) == pytest.approx(logged(b, loss=name), rel=1e-4)


def test_the_teacher_is_frozen_and_saved(tmp_path):
    teacher = kr.models.VAT(network(2), epsilon=0.5)
    before = teacher.get_weights()
    attack = kr.attacks.PGD(0.1, 0.05, 2, loss="kl", seed=3)
    model = kr.models.SRSTAWR(network(1), teacher, attack)
    logged(model, rate=0.1)
    assert len(model.trainable_variables) == 4
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    for a, b, c in zip(before, teacher.get_weights(), loaded.teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
    assert loaded.train_on_batch(X, Y) == pytest.approx(model.train_on_batch(X, Y), rel=1e-6)
    for a, b in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_under_sam_and_passes():
    # Attack of three steps with its target, clean and attacked pass, the last two once more for SAM.
    net, counter = counting_model()
    attack = kr.attacks.PGD(0.1, 0.05, 3, loss="kl")
    model = kr.models.SAM(kr.models.SRSTAWR(net, network(2), attack))
    model.compile("sgd", LOSS)
    model.train_on_batch(X, Y)
    assert tuple(count(counter, lambda: model.train_on_batch(X, Y))) == (8, 7, 4)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"teacher": keras.Sequential([layers.Dense(3)])}, "`teacher` must be a trained"),
        ({"teacher": "net"}, "`teacher` must be a trained"),
        ({"attack": "pgd"}, "`attack` must be an attack"),
        ({"temperature": 0}, "`temperature` must be above 0"),
        ({"beta": 1.5}, "`beta` must be"),
        ({"label_smoothing": -0.1}, "`label_smoothing` must be"),
        ({"factor": -1}, "`factor` must be"),
    ],
)
def test_bad_arguments(change, message):
    with pytest.raises(ValueError, match=message):
        kr.models.SRSTAWR(**{"model": network(1), "teacher": network(2), "attack": FGSM, **change})
