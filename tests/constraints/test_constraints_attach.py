"""constraints.attach: it acts from the next step on, and is saved."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_regularize import constraints
from keras_regularize.constraints import SoftThreshold


def mlp():
    return keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dense(2)])


def train(model):
    model.compile(keras.optimizers.SGD(0.1), "mse")
    rng = np.random.default_rng(0)
    model.fit(rng.normal(size=(8, 4)), rng.normal(size=(8, 2)), epochs=1, verbose=0)


def norms(variable):
    return np.linalg.norm(ops.convert_to_numpy(variable.value), axis=0)


def test_acts_in_fit():
    model = mlp()
    touched = constraints.attach(model, keras.constraints.UnitNorm(axis=0))
    assert [v.path for v in touched] == [model.weights[0].path, model.weights[2].path]
    assert not np.allclose(norms(touched[0]), 1.0)  # The present values stay.
    train(model)
    for variable in touched:
        np.testing.assert_allclose(norms(variable), 1.0, rtol=1e-5)


def test_survives_saving_and_acts_again(tmp_path):
    model = mlp()
    constraints.attach(model, SoftThreshold(100.0))
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    assert restored.layers[0].kernel_constraint.threshold == 100.0
    assert restored.layers[0].bias_constraint is None
    train(restored)
    assert (restored.get_weights()[0] == 0).all() and (restored.get_weights()[1] != 0).any()


@pytest.mark.parametrize(
    "layer, shape, where, attribute",
    [
        (layers.Dense(3), (4,), "bias", "bias_constraint"),
        (layers.Conv1D(2, 3), (6, 2), "kernel", "kernel_constraint"),
        (layers.DepthwiseConv2D(3), (6, 6, 2), "kernel", "depthwise_constraint"),
        (layers.SeparableConv1D(2, 3), (6, 2), "pointwise_kernel", "pointwise_constraint"),
        (layers.Embedding(5, 2), (3,), "embeddings", "embeddings_constraint"),
        (layers.GroupNormalization(2), (4,), "gamma", "gamma_constraint"),
    ],
)
def test_layer_attribute(layer, shape, where, attribute):
    model = keras.Sequential([keras.Input(shape), layer])
    constraint = SoftThreshold(0.1)
    (variable,) = constraints.attach(model, constraint, where)
    assert variable.constraint is constraint and getattr(layer, attribute) is constraint
    assert layer.get_config()[attribute]["config"] == {"threshold": 0.1}


def test_recurrent_cell_and_nested_model(tmp_path):
    inputs = keras.Input((5, 4))
    encoder = keras.Sequential([keras.Input((5, 4)), layers.LSTM(3)])
    model = keras.Model(inputs, layers.Dense(2)(encoder(inputs)))
    (variable,) = constraints.attach(model, SoftThreshold(0.1), "recurrent_kernel")
    assert encoder.layers[0].cell.recurrent_constraint is variable.constraint
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    assert restored.layers[1].layers[0].recurrent_constraint.threshold == 0.1


def test_function_of_the_variable_and_removal():
    model = mlp()
    constraints.attach(model, lambda v: SoftThreshold(1.0 / v.shape[0]))
    assert [layer.kernel_constraint.threshold for layer in model.layers] == [1 / 4, 1 / 3]
    constraints.attach(model, None, lambda v: v.shape == (4, 3))
    assert model.weights[0].constraint is None and model.weights[2].constraint is not None


def test_attention_unbuilt_and_nothing():
    inputs = keras.Input((3, 4))
    model = keras.Model(inputs, layers.MultiHeadAttention(2, 2)(inputs, inputs))
    with pytest.warns(UserWarning, match="The constraint acts but cannot be saved"):
        touched = constraints.attach(model, SoftThreshold(100.0))
    assert len(touched) == 4
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(np.ones((2, 3, 4)), np.ones((2, 3, 4)), verbose=0)
    assert all((ops.convert_to_numpy(v.value) == 0).all() for v in touched)
    with pytest.raises(ValueError, match="needs a built model"):
        constraints.attach(keras.Sequential([layers.Dense(2)]), SoftThreshold(0.1))
    with pytest.raises(ValueError, match="chooses no variable"):
        constraints.attach(mlp(), SoftThreshold(0.1), "gamma")
