"""Iterative thresholding with learned step sizes."""

import keras
import numpy as np
import pytest

import keras_regularize as kr
from keras_regularize.testing._common import to_numpy


def problem(batch=64, m=8, n=16, seed=0):
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(m, n))
    x = rng.normal(size=(batch, n)) * (rng.uniform(size=(batch, n)) < 0.1)
    y = x @ matrix.T + 0.05 * rng.normal(size=(batch, m))
    return matrix, x.astype("float32"), y.astype("float32")


@pytest.mark.parametrize("name", ["ISTA", "IHT"])
def test_equal_steps_are_the_classical_iteration(name):
    matrix, _, y = problem(4)
    layer = getattr(kr.layers, f"Unfolded{name}")(matrix, 5, 0.1)
    step = 1.0 / np.linalg.norm(matrix, 2) ** 2
    solve = getattr(kr.inverse, name.lower())
    expected = solve(y, matrix, 0.1, step_size=step, iterations=5)
    np.testing.assert_allclose(to_numpy(layer(y)), expected, atol=1e-5)
    given = getattr(kr.layers, f"Unfolded{name}")(None, 5, 0.1, step_size=step)
    matrices = np.repeat(matrix[None], 4, axis=0).astype("float32")
    np.testing.assert_allclose(to_numpy(given([y, matrices])), expected, atol=1e-5)


def test_matrices_come_with_the_samples():
    """In `fit`, from a model with two inputs."""
    matrix, x, y = problem(8)
    inputs = [keras.Input((8,)), keras.Input((8, 16))]
    layer = kr.layers.UnfoldedISTA(None, 2, 0.1, step_size=0.02, train_threshold=True, share=True)
    model = keras.Model(inputs, layer(inputs))
    model.compile("sgd", "mse")
    model.fit([y, np.repeat(matrix[None], 8, axis=0)], x, verbose=0)
    assert [tuple(w.shape) for w in layer.trainable_variables] == [(1,), (1,)]
    assert model.output_shape == (None, 16)


def test_step_sizes_stay_at_least_zero():
    matrix, x, y = problem(8)
    model = keras.Sequential([kr.layers.UnfoldedISTA(matrix, 3, 0.1)])
    model.compile(keras.optimizers.SGD(100.0), "mse")
    model.fit(y, -100 * x, verbose=0)
    assert np.min(to_numpy(model.layers[0].step_sizes)) >= 0


def test_iterations_are_added_one_by_one():
    matrix, x, y = problem(8)
    layer = kr.layers.UnfoldedISTA(matrix, 3, 0.1)
    model = keras.Sequential([layer])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    start, moved = 1.0 / np.linalg.norm(matrix, 2) ** 2, []
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: moved.append(
            np.sum(np.abs(to_numpy(layer.step_sizes) - start) > 1e-7)
        )
    )
    callbacks = [kr.callbacks.IncrementalUnfolding(epochs_per_layer=2), note]
    model.fit(y, x, epochs=6, callbacks=callbacks, verbose=0)
    assert moved == [1, 1, 2, 2, 3, 3] and layer.active_iterations == 3
    other = keras.Sequential([keras.layers.Dense(16)])
    other.compile("sgd", "mse")
    with pytest.raises(ValueError, match="a model with a `kr.layers.UnfoldedISTA`"):
        other.fit(y, x, callbacks=[kr.callbacks.IncrementalUnfolding(1)], verbose=0)


@pytest.mark.rotating
def test_what_signals_and_what_measurements_teach():
    """Orderings of the paper: what each is trained on is best, and both beat the constant steps."""
    matrix, x, y = problem(256, 16, 32)
    results = {}
    for name, layer in (("ISTA", kr.layers.UnfoldedISTA), ("IHT", kr.layers.UnfoldedIHT)):
        penalty = {"ISTA": "l1", "IHT": "l0"}[name]
        objective = kr.losses.SparseRecoveryObjective(matrix, 0.3, penalty)
        for training in ("none", "supervised", "unsupervised"):
            keras.utils.set_random_seed(0)
            net = keras.Sequential([layer(matrix, 8, 0.3)])
            net.compile(
                keras.optimizers.Adam(0.003), "mse" if training == "supervised" else objective
            )
            if training != "none":
                targets = x if training == "supervised" else y
                net.fit(y, targets, batch_size=256, epochs=80, verbose=0)
            found = to_numpy(net(y))
            results[name, training] = np.mean((found - x) ** 2), float(objective(y, found))
    errors, values = ({key: result[i] for key, result in results.items()} for i in range(2))
    ista = [("ISTA", training) for training in ("supervised", "unsupervised", "none")]
    assert errors[ista[0]] < errors[ista[1]] < errors[ista[2]], errors
    assert values[ista[1]] < values[ista[0]], values
    assert values[ista[1]] < values[ista[2]], values
    for training in ("supervised", "unsupervised"):
        assert values["IHT", training] < 0.9 * values["IHT", "none"], values


@pytest.mark.once
def test_errors():
    with pytest.raises(ValueError, match="must be a `step_size`"):
        kr.layers.UnfoldedISTA(None, 3, 0.1)
    with pytest.raises(ValueError, match="`matrix` must be"):
        kr.layers.UnfoldedIHT([1.0, 2.0])
    with pytest.raises(ValueError, match="a row for each measurement"):
        kr.layers.UnfoldedISTA(np.ones((3, 4)))(np.ones((2, 4)))
    with pytest.raises(ValueError, match="a list of measurements and matrices"):
        kr.layers.UnfoldedISTA(step_size=0.1)(np.ones((2, 4)))
    for made in (kr.layers.UnfoldedIHT, kr.losses.SparseRecoveryObjective):
        with pytest.raises(ValueError, match="finite entries"):
            made(np.full((3, 4), np.nan))
    for entry in (0.0, 1e-25, 1e25):
        with pytest.raises(ValueError, match="must have a norm"):
            kr.layers.UnfoldedISTA(np.full((3, 4), entry))(np.ones((2, 3)))
    assert np.all(
        to_numpy(kr.layers.UnfoldedISTA(np.zeros((3, 4)), step_size=1.0)(np.ones((2, 3)))) == 0
    )
    with pytest.raises(ValueError, match="Expected measurements"):
        kr.losses.SparseRecoveryObjective(np.ones((3, 4)))(np.ones((2, 3)), np.ones((2, 3)))
