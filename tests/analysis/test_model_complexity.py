"""How many samples are fitted: of models for which the number is known."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_regularize import analysis

pytestmark = pytest.mark.rotating
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(200, 7)).astype("float32")


@keras.saving.register_keras_serializable("tests")
class LeastSquares(keras.Sequential):
    """A linear model whose training is the solution of least squares."""

    def fit(self, x, y, epochs, **_):
        rows = np.concatenate([x, np.ones((len(x), 1))], axis=1)
        y = np.reshape(y, (len(y), -1)).astype("float64")
        y = np.eye(2)[y[:, 0].astype(int)] if self.output_shape[-1] > y.shape[1] else y
        solution = np.linalg.lstsq(rows, y, rcond=None)[0]
        self.set_weights([solution[:-1], solution[-1]])
        history = keras.callbacks.History()
        history.history = {"loss": [float(np.mean((rows @ solution - y) ** 2))]}
        return history


def linear(outputs=1, loss="mse"):
    model = LeastSquares([keras.Input((7,)), layers.Dense(outputs)])
    model.compile("sgd", loss)
    return model


@pytest.mark.parametrize("initial_samples", [1, 5, 64])
def test_a_regression_fits_as_many_samples_as_it_has_weights(initial_samples):
    y = RANDOM.normal(size=200)
    result = analysis.effective_model_complexity(
        linear, X, y, initial_samples=initial_samples, relative_tolerance=0, max_error=1e-6
    )
    assert result.samples == result.parameters == 8 and result.ratio == 1
    assert not result.saturated and all(entry.converged for entry in result.history)
    assert [e.fitted for e in result.history] == [e.samples <= 8 for e in result.history]


def test_all_samples_may_be_fitted_and_data_has_any_form():
    y = X @ np.arange(7.0)
    batches = ((X[i : i + 50], y[i : i + 50]) for i in range(0, 200, 50))
    result = analysis.effective_model_complexity(linear, batches)
    assert result.samples == 200 and result.saturated
    assert [entry.samples for entry in result.history] == [16, 32, 64, 128, 200]


@pytest.mark.parametrize("form", ["ids", "rows", "single"])
def test_labels_that_can_be_learnt_leave_more_room(form):
    labels = np.arange(200) % 2
    x = X + 5 * labels[:, None]
    losses = {
        "ids": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "rows": keras.losses.CategoricalCrossentropy(from_logits=True),
        "single": keras.losses.BinaryCrossentropy(from_logits=False),
    }
    gap, given, random = analysis.label_capacity_gap(
        lambda: linear(1 if form == "single" else 2, losses[form]),
        x,
        np.eye(2)[labels] if form == "rows" else labels,
        max_epochs=20,
        check_minimum=False,
        gradient_norm=np.inf,
    )
    # Random labels: at least as many as there are inputs, and about twice as many at most.
    assert 8 <= random.samples <= 32 and given.samples == 200 and given.saturated
    assert gap == 200 / random.samples - 1


def test_a_training_that_fails_ends_at_a_minimum_or_at_the_last_epoch():
    keras.utils.set_random_seed(0)
    x, y = np.ones((8, 1), "float32"), np.arange(8) % 2

    def build():
        model = keras.Sequential([keras.Input((1,)), layers.Dense(2, kernel_initializer="ones")])
        model.compile(
            keras.optimizers.SGD(0.5), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
        return model

    result = analysis.effective_model_complexity(
        build, x, y, initial_samples=8, relative_tolerance=10, batch_size=8, max_epochs=100
    )
    first = result.history[0]
    assert not first.fitted and first.converged and first.epochs == 20
    short = analysis.effective_model_complexity(
        build, x, y, initial_samples=8, relative_tolerance=10, max_epochs=5
    )
    assert short.history[0] == (8, False, False, 5)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda y: analysis.effective_model_complexity(linear, X, y, growth=1), "`growth`"),
        (lambda y: analysis.effective_model_complexity(linear, X, y, repeats=0), "`repeats`"),
        (lambda y: analysis.effective_model_complexity(linear, X), "Labels are missing"),
        (lambda y: analysis.effective_model_complexity(linear, X, y, labels="random"), "classes"),
        (lambda y: analysis.effective_model_complexity(lambda: 3, X, y), "a compiled model"),
        (
            lambda y: analysis.effective_model_complexity(
                lambda: linear(2, "sparse_categorical_crossentropy"), X, y
            ),
            "ids of 2 classes",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.linspace(0, 1, 200))


def test_plot():
    plt = pytest.importorskip("matplotlib.pyplot")
    result = analysis.effective_model_complexity(linear, X[:20], X[:20] @ np.ones(7))
    assert result.plot(plt.figure().add_subplot()).get_xlabel() == "samples"
    plt.close("all")
