"""KerasHub tasks under wrappers: strings and images in, LoRA, quantization, saving; tiny random weights."""

import keras
import numpy as np
import pytest

import keras_regularize as kr

# Of Keras, for every model with a `compile` of its own.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*was not called as part of model loading:UserWarning"
)

WORDS = ["the", "quick", "brown", "fox", "a", "good", "bad", "film", "old", "new"]
SENTENCES = ["the quick fox", "a good film", "a bad film", "the old brown fox"]
LABELS = np.array([0, 1, 0, 1])
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.fixture(autouse=True)
def keras_hub_is_there():
    """Imported by the first test, since it takes seconds that every process would spend on collection.

    `make test-oldest` goes without: a KerasHub of that age asks for other parts as well.
    """
    global keras_hub
    keras_hub = pytest.importorskip("keras_hub")


def text_classifier():
    keras.utils.set_random_seed(0)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = keras_hub.models.BertTokenizer(vocabulary=[*special, *WORDS])
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=15,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=8,
        max_sequence_length=8,
        dropout=0.0,
        name="backbone",
    )
    return keras_hub.models.BertTextClassifier(
        backbone,
        num_classes=2,
        dropout=0.0,
        preprocessor=keras_hub.models.BertTextClassifierPreprocessor(tokenizer, sequence_length=8),
    )


def language_model():
    keras.utils.set_random_seed(0)
    vocabulary = {
        word: i for i, word in enumerate(["<|endoftext|>", *"abcdefghij", "Ġ", "ab", "cd"])
    }
    tokenizer = keras_hub.models.GPT2Tokenizer(vocabulary=vocabulary, merges=["a b", "c d"])
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=14,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=8,
        max_sequence_length=8,
        dropout=0.0,
        name="backbone",
    )
    preprocessor = keras_hub.models.GPT2CausalLMPreprocessor(tokenizer, sequence_length=8)
    return keras_hub.models.GPT2CausalLM(backbone, preprocessor)


def image_classifier():
    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.ViTBackbone(
        image_shape=(8, 8, 3),
        patch_size=4,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        mlp_dim=8,
        dropout_rate=0.0,
        attention_dropout=0.0,
    )
    return keras_hub.models.ViTImageClassifier(backbone, num_classes=2, dropout=0.0)


IMAGES = np.random.default_rng(0).uniform(size=(4, 8, 8, 3)).astype("float32")
TASKS = {
    "text": (text_classifier, SENTENCES, LABELS),
    "language": (language_model, ["ab cd", "fg h", "ij ab", "cd ef"], None),
    "images": (image_classifier, IMAGES, LABELS),
}


# A language model calls its embedding twice, the second time for the logits.
LAYERS = {
    "BertTextClassifier": "token_embedding",
    "GPT2CausalLM": "embeddings_add",
    "ViTImageClassifier": None,
}


def vat(net):
    return kr.models.VAT(net, layer=LAYERS[type(net).__name__], epsilon=0.5, seed=0)


def plain_strength(kind):
    return {
        "gradient": lambda net: kr.models.SAM(net, rho=0.0),
        "objective": lambda net: kr.models.Flooding(net, 0.0),
        "input": lambda net: kr.models.VAT(net, factor=0.0, layer=LAYERS[type(net).__name__]),
    }[kind]


def compiled(model, metrics=()):
    model.compile(keras.optimizers.SGD(0.1), LOSS, weighted_metrics=list(metrics))
    return model


def fitted(model, task, epochs=2):
    _, x, y = TASKS[task]
    options = {"batch_size": 2, "verbose": 0, "epochs": epochs}
    return model.fit(x, y, **options).history["loss"]


def plainly_fitted(task):
    """What Keras itself makes of the task's data, in the same order."""
    make, x, y = TASKS[task]
    net = make()
    x, y, weight = keras.utils.unpack_x_y_sample_weight(
        net.preprocess_samples(x) if y is None else net.preprocess_samples(x, y)
    )
    plain = compiled(keras.Model(net.input, net.output))
    return plain.fit(
        x, y, sample_weight=weight, batch_size=2, epochs=2, verbose=0, shuffle=False
    ).history["loss"]


@pytest.mark.parametrize("level", ["gradient", "objective", "input"])
@pytest.mark.parametrize("task", TASKS)
def test_zero_strength_is_plain_training(task, level):
    make, x, y = TASKS[task]
    model = compiled(plain_strength(level)(make()))
    options = {"batch_size": 2, "epochs": 2, "verbose": 0, "shuffle": False}
    found = model.fit(x, y, **options).history["loss"]
    np.testing.assert_allclose(found, plainly_fitted(task), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_trains_saves_and_goes_on(task, tmp_path):
    make, x, y = TASKS[task]
    model = compiled(kr.models.SAM(vat(make()), rho=0.05))
    fitted(model, task)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for a, b in zip(loaded.model.model.weights, model.model.model.weights):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(loaded.predict(x, verbose=0), expected, rtol=1e-4, atol=1e-6)
    # Text alone is a language model's labels, which `train_on_batch` and `evaluate` find as `fit` does.
    results = [float(np.asarray(m.train_on_batch(x, y))) for m in (model, loaded)]
    np.testing.assert_allclose(results[1], results[0], rtol=1e-4)
    assert np.isfinite(model.evaluate(x, y, verbose=0))


def test_datasets_of_strings():
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((SENTENCES, LABELS)).batch(2)
    losses = []
    for wrap in (lambda net: net, lambda net: kr.models.SAM(net, rho=0.0)):
        model = compiled(wrap(text_classifier()))
        history = model.fit(data, validation_data=data, epochs=2, verbose=0, shuffle=False).history
        losses.append(history["loss"] + history["val_loss"])
        assert model.predict(SENTENCES, verbose=0).shape == (4, 2)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


def test_lora_trains_its_own_weights_alone():
    net = text_classifier()
    net.backbone.enable_lora(2)
    before = {v.path: v.numpy() for v in net.non_trainable_variables}
    model = compiled(kr.models.SAM(kr.models.VAT(net, layer="token_embedding"), rho=0.05))
    fitted(model, "text")
    for v in net.non_trainable_variables:
        if v.path in before and "seed" not in v.path:
            np.testing.assert_array_equal(v.numpy(), before[v.path])
    assert any("lora" in v.path for v in net.trainable_variables)


@pytest.mark.filterwarnings("ignore:.*does not have a `quantize` method:UserWarning")
def test_a_trained_task_is_quantized():
    net = text_classifier()
    model = compiled(kr.models.SAM(net, rho=0.05))
    fitted(model, "text")
    before = model.predict(SENTENCES, verbose=0)
    net.backbone.quantize("int8")
    np.testing.assert_allclose(net.predict(SENTENCES, verbose=0), before, atol=0.05)


@pytest.mark.filterwarnings("ignore:.*does not have a `quantize` method:UserWarning")
def test_adapters_of_a_quantized_task_are_trained():
    """LoRA over int8 weights, with a search at the quantized embedding."""
    net = text_classifier()
    net.backbone.quantize("int8")
    net.backbone.enable_lora(2)
    model = compiled(kr.models.SAM(vat(net), rho=0.05))
    before = {v.path: v.numpy() for v in net.weights}
    assert np.isfinite(fitted(model, "text")).all()
    moved = {v.path for v in net.weights if (v.numpy() != before[v.path]).any()}
    assert any("lora" in path for path in moved)
    assert not any(v.dtype == "int8" for v in net.weights if v.path in moved)
