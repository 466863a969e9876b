import numpy as np
import pytest

from keras_regularize.losses import decoupled_distillation_loss, distillation_loss
from keras_regularize.testing._common import to_numpy, values_and_gradients

RNG = np.random.default_rng(0)
IDS = np.array([0, 2, 1, 4, 3])
STUDENT, TEACHER = RNG.normal(0, 2, (2, 5, 5)).astype("float32")


def evaluate(function, student, **options):
    """Values and the gradient with respect to the student's logits."""
    run = values_and_gradients(lambda z, v: function(IDS, z, v, **options))
    return lambda teacher: tuple(map(to_numpy, run(student, teacher)))


def softmax(z):
    e = np.exp(np.asarray(z, "float64") - np.max(z, axis=-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_labels_alone_ignore_the_teacher_and_an_equal_teacher_adds_nothing():
    run = evaluate(distillation_loss, STUDENT, alpha=1.0)
    value, _ = run(TEACHER)
    np.testing.assert_allclose(value, -np.log(softmax(STUDENT)[np.arange(5), IDS]), rtol=1e-4)
    np.testing.assert_array_equal(value, run(TEACHER[::-1])[0])
    # The divergences are 0 but for the rounding of log-probabilities near 5, times `T^2` and `beta T^2`.
    for function, options, multiple in (
        (distillation_loss, {"alpha": 0.0}, 3**2),
        (decoupled_distillation_loss, {}, 8 * 4**2),
    ):
        value, slope = evaluate(function, STUDENT, **options)(STUDENT)
        rounding = 5 * multiple * np.finfo("float32").eps
        np.testing.assert_allclose(value, 0, atol=rounding)
        np.testing.assert_allclose(slope, 0, atol=rounding)


def test_the_parts_of_the_decoupled_divergence_add_up():
    t = 2.5
    whole, _ = evaluate(distillation_loss, STUDENT, alpha=0.0, temperature=t)(TEACHER)
    own, _ = evaluate(decoupled_distillation_loss, STUDENT, beta=0.0, temperature=t)(TEACHER)
    rest, _ = evaluate(decoupled_distillation_loss, STUDENT, alpha=0.0, beta=1.0, temperature=t)(
        TEACHER
    )
    p = softmax(TEACHER / t)[np.arange(5), IDS]
    np.testing.assert_allclose(whole, own + (1 - p) * rest, rtol=1e-4)


def test_two_classes_leave_nothing_beside_the_label():
    run = values_and_gradients(
        lambda z, v: decoupled_distillation_loss(np.array([0, 1]), z, v, alpha=0.0)
    )
    value, slope = map(to_numpy, run(STUDENT[:2, :2], TEACHER[:2, :2]))
    np.testing.assert_allclose(value, 0, atol=1e-6)
    np.testing.assert_allclose(slope, 0, atol=1e-6)


@pytest.mark.parametrize("function", [distillation_loss, decoupled_distillation_loss])
@pytest.mark.parametrize("dtype, size", [("float32", 1e4), ("float16", 3e4)])
def test_saturated_logits_are_finite(function, dtype, size):
    student = (size * np.eye(5)).astype(dtype)
    for teacher in (student, -student, np.roll(student, 1, axis=0), 0 * student):
        for part in evaluate(function, student)(teacher):
            assert np.all(np.isfinite(part))


def test_a_saturated_student_is_at_no_distance_from_a_teacher_that_agrees():
    logits = 1e4 * np.array([[1.2, 0.3, -0.7], [-0.1, 0.4, 0.9]], "float32")
    run = values_and_gradients(lambda z, v: distillation_loss(np.array([0, 2]), z, v))
    for teacher in (logits, 0.7 * logits):
        for part in map(to_numpy, run(logits, teacher)):
            np.testing.assert_allclose(part, 0, atol=1e-6)


def test_rows_are_labels_too():
    for function in (distillation_loss, decoupled_distillation_loss):
        expected = to_numpy(function(IDS, STUDENT, TEACHER))
        got = to_numpy(function(np.eye(5, dtype="float32")[IDS], STUDENT, TEACHER))
        np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: distillation_loss(IDS, STUDENT, TEACHER, alpha=2), "`alpha` must be a number at"),
        (
            lambda: distillation_loss(IDS, STUDENT, TEACHER, temperature=0),
            "`temperature` must be a number above 0",
        ),
        (
            lambda: decoupled_distillation_loss(IDS, STUDENT, TEACHER, beta=-1),
            "`beta` must be a number",
        ),
        (lambda: distillation_loss(IDS, STUDENT, TEACHER[:, :3]), "Expected logits of the teacher"),
        (lambda: distillation_loss(IDS, STUDENT, TEACHER[:1]), r"Received: teacher.shape=\(1, 5\)"),
        (
            lambda: decoupled_distillation_loss(0 * IDS, STUDENT[:, :1], TEACHER[:, :1]),
            r"at least two classes. Received: y_pred.shape=\(5, 1\)",
        ),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
