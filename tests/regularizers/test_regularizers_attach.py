"""regularizers.attach: what it chooses, that it counts at once, and that it is saved."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_regularize import models, regularizers
from keras_regularize.regularizers import NormLoss


def value(x):
    return float(ops.convert_to_numpy(ops.stop_gradient(ops.convert_to_tensor(x))))


def penalty(model):
    return sum(value(loss) for loss in model.losses)


def norm_loss(variables, factor):
    return sum(
        factor * float(((1 - np.linalg.norm(v.reshape(-1, v.shape[-1]), axis=0)) ** 2).sum())
        for v in (ops.convert_to_numpy(variable.value) for variable in variables)
    )


def mlp():
    return keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dense(2)])


def reload(model, tmp_path):
    model.save(tmp_path / "model.keras")
    return keras.models.load_model(tmp_path / "model.keras")


def test_counts_at_once_and_in_fit():
    model = mlp()
    touched = regularizers.attach(model, NormLoss(0.1))
    assert [v.path for v in touched] == [model.weights[0].path, model.weights[2].path]
    expected = norm_loss(touched, 0.1)
    assert expected > 0.01
    np.testing.assert_allclose(penalty(model), expected, rtol=1e-5)
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    y = model.predict(x, verbose=0)  # The data term is zero.
    model.compile(keras.optimizers.SGD(0.0), "mse")
    history = model.fit(x, y, batch_size=8, verbose=0).history
    np.testing.assert_allclose(history["loss"][0], expected, rtol=1e-4)


def test_training_feels_it():
    model = mlp()
    regularizers.attach(model, NormLoss(1.0))
    before = penalty(model)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(np.zeros((8, 4)), np.zeros((8, 2)), epochs=5, verbose=0)
    assert penalty(model) < 0.5 * before


def test_survives_saving(tmp_path):
    model = mlp()
    regularizers.attach(model, NormLoss(0.1))
    restored = reload(model, tmp_path)
    assert restored.layers[0].kernel_regularizer.factor == 0.1
    assert restored.layers[0].bias_regularizer is None
    np.testing.assert_allclose(penalty(restored), penalty(model), rtol=1e-6)
    copy = keras.models.clone_model(model)
    assert isinstance(copy.layers[1].kernel_regularizer, NormLoss)


@pytest.mark.parametrize(
    "layer, shape, where, attribute",
    [
        (layers.Dense(3), (4,), "kernel", "kernel_regularizer"),
        (layers.Dense(3), (4,), "bias", "bias_regularizer"),
        (layers.EinsumDense("ab,bc->ac", 3), (4,), "kernel", "kernel_regularizer"),
        (layers.Conv2D(2, 3), (6, 6, 2), "kernel", "kernel_regularizer"),
        (layers.Conv2DTranspose(2, 3), (6, 6, 2), "kernel", "kernel_regularizer"),
        (layers.DepthwiseConv2D(3), (6, 6, 2), "kernel", "depthwise_regularizer"),
        (layers.DepthwiseConv1D(3), (6, 2), "bias", "bias_regularizer"),
        (layers.SeparableConv2D(2, 3), (6, 6, 2), "depthwise_kernel", "depthwise_regularizer"),
        (layers.SeparableConv2D(2, 3), (6, 6, 2), "pointwise_kernel", "pointwise_regularizer"),
        (layers.Embedding(5, 2), (3,), "embeddings", "embeddings_regularizer"),
        (layers.BatchNormalization(), (4,), "gamma", "gamma_regularizer"),
        (layers.LayerNormalization(), (4,), "beta", "beta_regularizer"),
        (layers.PReLU(), (4,), "alpha", "alpha_regularizer"),
    ],
)
def test_layer_attribute(layer, shape, where, attribute, tmp_path):
    model = keras.Sequential([keras.Input(shape), layer])
    regularizer = keras.regularizers.L2(0.5)
    (variable,) = regularizers.attach(model, regularizer, where)
    assert variable.regularizer is regularizer
    assert getattr(layer, attribute) is regularizer
    restored = reload(model, tmp_path)
    np.testing.assert_allclose(penalty(restored), penalty(model), rtol=1e-6)
    weights = ops.convert_to_numpy(variable.value)
    np.testing.assert_allclose(penalty(model), 0.5 * np.sum(weights**2), rtol=1e-5)


@pytest.mark.parametrize("cls", [layers.SimpleRNN, layers.GRU, layers.LSTM])
def test_recurrent_layers_keep_it_on_the_cell(cls, tmp_path):
    layer = cls(3)
    model = keras.Sequential([keras.Input((5, 2)), layer])
    (kernel,) = regularizers.attach(model, NormLoss(0.1))
    (recurrent,) = regularizers.attach(model, NormLoss(0.2), "recurrent_kernel")
    assert layer.cell.kernel_regularizer.factor == 0.1
    assert layer.recurrent_regularizer.factor == 0.2
    expected = norm_loss([kernel], 0.1) + norm_loss([recurrent], 0.2)
    np.testing.assert_allclose(penalty(model), expected, rtol=1e-5)
    np.testing.assert_allclose(penalty(reload(model, tmp_path)), expected, rtol=1e-5)


def test_wrappers_and_stacked_cells(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((5, 2)),
            layers.Bidirectional(layers.GRU(3, return_sequences=True)),
            layers.TimeDistributed(layers.Dense(3)),
            layers.RNN([layers.LSTMCell(2), layers.LSTMCell(2)]),
        ]
    )
    touched = regularizers.attach(model, NormLoss(0.1))
    assert len(touched) == 5
    np.testing.assert_allclose(penalty(model), norm_loss(touched, 0.1), rtol=1e-5)
    np.testing.assert_allclose(penalty(reload(model, tmp_path)), penalty(model), rtol=1e-5)


def test_nested_and_shared_models(tmp_path):
    backbone = mlp()
    inputs = keras.Input((4,))
    features = layers.Add()([backbone(inputs), backbone(2 * inputs)])
    model = keras.Model(inputs, layers.Dense(1)(features))
    touched = regularizers.attach(model, NormLoss(0.1))
    assert len(touched) == 3
    np.testing.assert_allclose(penalty(model), norm_loss(touched, 0.1), rtol=1e-5)
    np.testing.assert_allclose(penalty(reload(model, tmp_path)), penalty(model), rtol=1e-5)


def test_predicate_and_function_of_the_variable(tmp_path):
    model = mlp()
    touched = regularizers.attach(
        model, lambda v: NormLoss(1.0 / v.shape[-1]), where=lambda v: v.shape == (4, 3)
    )
    assert len(touched) == 1
    np.testing.assert_allclose(penalty(model), norm_loss(touched, 1 / 3), rtol=1e-5)
    assert reload(model, tmp_path).layers[0].kernel_regularizer.factor == 1 / 3


def test_replaces_and_removes():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, kernel_regularizer=keras.regularizers.L2(1.0))]
    )
    (variable,) = regularizers.attach(model, "l1")
    kernel = ops.convert_to_numpy(variable.value)
    np.testing.assert_allclose(penalty(model), 0.01 * np.abs(kernel).sum(), rtol=1e-5)
    regularizers.attach(model, None)
    assert model.losses == [] and model.layers[0].kernel_regularizer is None


def test_frozen_layers_count_once_they_train():
    model = mlp()
    model.layers[0].trainable = False
    touched = regularizers.attach(model, NormLoss(0.1))
    assert len(touched) == 2 and len(model.losses) == 1
    model.layers[0].trainable = True
    np.testing.assert_allclose(penalty(model), norm_loss(touched, 0.1), rtol=1e-5)


def test_subclassed_models():
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.hidden = layers.Dense(3)

        def call(self, x):
            return self.hidden(x)

    model = Net()
    model(np.zeros((1, 2), "float32"))
    with pytest.warns(UserWarning, match="acts but cannot be saved.*dense.*/kernel"):
        touched = regularizers.attach(model, NormLoss(0.1))
    np.testing.assert_allclose(penalty(model), norm_loss(touched, 0.1), rtol=1e-5)


@keras.saving.register_keras_serializable("tests")
class Block(layers.Layer):
    """A custom layer with layers and a weight of its own."""

    def __init__(self, **options):
        super().__init__(**options)
        self.parts = [layers.Dense(4), {"deep": layers.Dense(4)}]
        self.attention = layers.MultiHeadAttention(2, 2)

    def build(self, shape):
        self.parts[0].build(shape)
        self.parts[1]["deep"].build(shape)
        self.attention.build(shape, shape)
        self.kernel = self.add_weight(shape=(4, 4), name="kernel")

    def call(self, x):
        x = self.parts[1]["deep"](self.parts[0](x)) @ self.kernel
        return self.attention(x, x)


def test_layers_inside_custom_layers_and_attention_count_and_a_warning_says_what_is_not_saved(
    tmp_path,
):
    inputs = keras.Input((3, 4))
    x = Block()(layers.Dense(4, name="saved")(inputs))
    model = keras.Model(inputs, layers.MultiHeadAttention(2, 2, name="heads")(x, x))
    with pytest.warns(UserWarning, match="acts but cannot be saved") as caught:
        touched = regularizers.attach(model, NormLoss(0.1))
    assert len(caught) == 1 and len(touched) == 1 + 7 + 4
    message = str(caught[0].message)
    assert "'saved/kernel'" not in message and message.count("/kernel'") == 11
    assert "'heads/query/kernel'" in message
    np.testing.assert_allclose(penalty(model), norm_loss(touched, 0.1), rtol=1e-5)
    assert model.layers[2].parts[1]["deep"].kernel_regularizer.factor == 0.1
    restored = reload(model, tmp_path)
    assert len(restored.losses) == 1
    # Without a word where all is saved.
    chosen = regularizers.attach(restored, NormLoss(), lambda v: v.path.startswith("saved"))
    assert [v.name for v in chosen] == ["kernel", "bias"]


def test_wrapped_models_are_saved_with_it(tmp_path):
    model = models.VAT(models.SAM(mlp()))
    regularizers.attach(model, NormLoss(0.1))
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    assert restored.model.model.layers[0].kernel_regularizer.factor == 0.1


def test_unbuilt_model():
    with pytest.raises(ValueError, match="needs a built model"):
        regularizers.attach(keras.Sequential([layers.Dense(2)]), NormLoss())


@pytest.mark.parametrize("where", ["kernels", lambda v: False])
def test_nothing_chosen(where):
    with pytest.raises(ValueError, match="chooses no variable.*'bias', 'kernel'"):
        regularizers.attach(mlp(), NormLoss(), where)


def test_bad_arguments():
    with pytest.raises(ValueError, match="`where` must be the name"):
        regularizers.attach(mlp(), NormLoss(), 3)
    with pytest.raises(ValueError, match="must be a Keras model"):
        regularizers.attach("model", NormLoss())
    with pytest.raises(ValueError, match="Could not interpret regularizer"):
        regularizers.attach(mlp(), "nothing")
