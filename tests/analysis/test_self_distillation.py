"""Self-distillation: its identities for kernels, and generations whose closed form is known."""

import keras
import numpy as np
import pytest

from keras_regularize.analysis import (
    kernel_self_distillation,
    optimal_distillation_weight,
    self_distill,
)

RNG = np.random.default_rng(2)
X, NEW = np.linspace(0, 1, 11)[:, None], np.linspace(0.04, 0.96, 8)[:, None]
Y, TRUTH = np.sin(6 * X) + RNG.normal(0, 0.5, X.shape), np.sin(6 * NEW)
REGULARIZATION = 0.2


def kernel(a, b):
    return np.exp(-20 * (a - b.T) ** 2)


class Ridge(keras.Model):
    """Kernel ridge regression by its solution."""

    def __init__(self, loss="mse"):
        super().__init__()
        self.compile(loss=loss)
        self.seen = []

    def fit(self, x, y, **arguments):
        self.seen.append((np.asarray(y, "float64"), arguments))
        self.dual = np.linalg.solve(kernel(X, X) + REGULARIZATION * np.eye(11), self.seen[0][0])

    def predict(self, x, verbose):
        return kernel(x, X) @ self.dual if self.seen else np.zeros((len(x), 1))


def test_generations_of_ridge_regression_follow_the_closed_form():
    result = self_distill(Ridge, X, Y, steps=4, validation_data=(NEW, TRUTH), verbose=0, epochs=7)
    assert result.weights[0] == 1.0 and all(0 < w < 1 for w in result.weights[1:])
    fitted = kernel_self_distillation(kernel(X, X), Y, result.weights, REGULARIZATION)
    for model, expected in zip(result.models, fitted, strict=True):
        np.testing.assert_allclose(model.predict(X, 0), expected, atol=1e-6)
        assert model.seen[0][1] == {"epochs": 7, "verbose": 0, "validation_data": (NEW, TRUTH)}
    # No other weights would have done better.
    errors = [np.mean((model.predict(NEW, 0) - TRUTH) ** 2) for model in result.models]
    for i, chosen in enumerate(result.weights[1:], start=1):
        for weight in (chosen - 0.05, chosen + 0.05, 0.0, 1.0):
            weights = [*result.weights[:i], weight]
            other = kernel_self_distillation(kernel(X, X), Y, weights, REGULARIZATION)[-1]
            predicted = kernel(NEW, X) @ np.linalg.solve(kernel(X, X), other)
            assert errors[i] < np.mean((predicted - TRUTH) ** 2)


def test_a_number_as_weight_and_the_progress(capsys):
    result = self_distill(Ridge, X, Y, steps=3, alpha=0.25, batch_size=4)
    fitted = kernel_self_distillation(kernel(X, X), Y, [0.25] * 3, REGULARIZATION)
    np.testing.assert_allclose(result.models[-1].predict(X, 0), fitted[-1], atol=1e-6)
    assert result.weights == [1.0, 0.25, 0.25]
    assert "3/3" in capsys.readouterr().out
    (only,) = self_distill(Ridge, X, Y, steps=1, verbose=0).models  # Nothing to search for.
    np.testing.assert_allclose(only.predict(X, 0), fitted[0], atol=1e-6)
    assert capsys.readouterr().out == ""


class Scores(Ridge):
    """A classifier of given logits."""

    def __init__(self, loss, logits):
        super().__init__(loss)
        self.logits = logits

    def fit(self, x, y, **arguments):
        self.seen.append(y)

    def predict(self, x, verbose):
        return self.logits[: len(x)]


def test_classifiers_learn_from_probabilities():
    logits = np.array([[1e4, 0.0, 0.0], [0.5, 0.0, -0.5]])
    e = np.exp(logits[1])
    probabilities = np.array([[1, 0, 0], e / e.sum()])
    rows = np.eye(3)[[1, 2]]
    categorical, binary = keras.losses.CategoricalCrossentropy, keras.losses.BinaryCrossentropy
    for loss, outputs, expected in (
        (categorical(from_logits=True), logits, probabilities),
        (categorical(), probabilities, probabilities),
        (
            binary(from_logits=True),
            np.array([[-1e4], [1.0]]),
            np.array([[0], [1 / (1 + 1 / np.e)]]),
        ),
    ):
        y = rows[:, : outputs.shape[1]]
        models = self_distill(lambda: Scores(loss, outputs), logits, y, 2, 0.3, verbose=0).models  # noqa: B023
        np.testing.assert_allclose(models[1].seen[0], 0.3 * y + 0.7 * expected, atol=1e-6)


def test_errors_of_the_generations():
    for arguments, message in [
        ({"steps": 0}, "`steps` must be an integer"),
        ({"alpha": 1.5}, "`alpha` must be"),
        ({}, '`alpha="auto"` needs `validation_data`'),
        ({"build_model": keras.Sequential, "alpha": 0.0}, "must return a compiled model"),
        ({"y": Y[:, 0], "alpha": 0.0}, "Targets must have the shape of the model's outputs"),
    ]:
        with pytest.raises(ValueError, match=message):
            self_distill(**{"build_model": Ridge, "x": X, "y": Y, "verbose": 0, **arguments})


def test_kernel_steps_shrink_small_eigenvalues_first_and_end_in_a_ridge_fit():
    k, l2 = kernel(X, X), REGULARIZATION
    values, vectors = np.linalg.eigh(k)
    alone = kernel_self_distillation(k, Y[:, 0], [0.0] * 1000, l2)
    shrunk = (vectors.T @ alone[4]) / (vectors.T @ Y[:, 0])
    np.testing.assert_allclose(shrunk, (values / (values + l2)) ** 5, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(alone[-1], 0, atol=1e-10)
    kept = kernel_self_distillation(k, Y, [0.4] * 200, l2)
    assert kept.shape == (200, 11, 1)
    limit = 0.4 * k @ np.linalg.solve(0.4 * k + l2 * np.eye(11), Y)
    np.testing.assert_allclose(kept[-1], limit, atol=1e-10)
    np.testing.assert_allclose(kernel_self_distillation(k, Y, [1.0] * 2, l2)[1], kept[0])
    singular = kernel_self_distillation(np.ones((3, 3)), [1.0, 2.0, 3.0], [0.5], 1.0)
    np.testing.assert_allclose(singular, np.full((1, 3), 1.5))
    assert kernel_self_distillation(k, Y, [], l2).shape == (0, 11, 1)


def test_some_ground_truth_keeps_the_gain_of_the_first_generations():
    narrow = np.exp(-80 * (X - X.T) ** 2)
    errors = {}
    for alpha in (0.0, 0.35):
        fitted = kernel_self_distillation(narrow, Y, [1.0] + 9 * [alpha], REGULARIZATION)
        errors[alpha] = np.mean((fitted - np.sin(6 * X)) ** 2, axis=(1, 2))
    # Alone, it gets better for some generations and then much worse.
    best = errors[0.0].argmin()
    assert 0 < best < 9 and errors[0.0][-1] > 1.5 * errors[0.0][best], errors
    kept = errors[0.35]
    assert kept[-1] < 0.9 * kept[0] and kept[-1] < 1.01 * kept.min(), errors


def test_errors_for_kernels():
    with pytest.raises(ValueError, match="`regularization` must be a number above 0"):
        kernel_self_distillation(np.eye(2), [0, 1], [0.5], 0)
    with pytest.raises(ValueError, match="Expected a kernel matrix.*\\(2, 2\\).*\\(3,\\)"):
        kernel_self_distillation(np.eye(2), [0, 1, 2], [0.5], 1)
    for weights in (0.5, [0.5, "auto"]):
        with pytest.raises(ValueError, match="`weights` must be .* Received: weights="):
            kernel_self_distillation(np.eye(2), [0, 1], weights, 1)


def test_the_optimal_weight_mixes_to_the_least_error():
    y, a, b = RNG.normal(size=(3, 6, 2))
    best = optimal_distillation_weight(y, a, b)
    error = [np.sum((y - w * a - (1 - w) * b) ** 2) for w in (best - 0.01, best, best + 0.01)]
    assert error[1] < min(error[0], error[2])
    assert optimal_distillation_weight(y, a, a) == 1.0
    assert optimal_distillation_weight(b, a, b) == 0.0
    with pytest.raises(ValueError, match="one shape.*\\(6, 2\\).*\\(6, 1\\)"):
        optimal_distillation_weight(y, a[:, :1], b)
