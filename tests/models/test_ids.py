"""Ids: floating ones cannot be perturbed, integer ones are attacked at a layer, in models with unknown sizes."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_regularize as kr

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
RNG = np.random.default_rng(0)
IDS, Y = RNG.integers(1, 7, (6, 4)), RNG.integers(0, 3, 6)
X = RNG.normal(size=(6, 4)).astype("float32")
MASK = np.ones((6, 4), "int32")


def functional(dtype="float32"):
    ids = keras.Input((4,), dtype=dtype, name="ids")
    x = layers.Embedding(7, 3, name="words")(ids)
    return keras.Model(ids, layers.Dense(3)(layers.Flatten()(x)))


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.words, self.head = layers.Embedding(7, 3, name="words"), layers.Dense(3)

    def call(self, x):
        return self.head(ops.mean(self.words(x[:, 1:]), axis=1))


class Inside(layers.Layer):
    def __init__(self):
        super().__init__()
        self.table = layers.Embedding(7, 3)

    def call(self, x):
        return ops.mean(self.table(x), axis=1)


MODELS = {
    "functional": functional,
    "integer input": lambda: functional("int32"),
    "sequential": lambda: keras.Sequential(
        [keras.Input((4,)), layers.Embedding(7, 3), layers.Flatten(), layers.Dense(3)]
    ),
    "subclassed": Subclassed,
    "custom layer": lambda: keras.Sequential([keras.Input((4,)), Inside(), layers.Dense(3)]),
    "nested": lambda: keras.Sequential([keras.Input((4,)), functional(), layers.Dense(3)]),
}
WRAPPERS = {
    "VAT": lambda net: kr.models.VAT(net, epsilon=0.5),
    "AdversarialTraining": lambda net: kr.models.AdversarialTraining(
        net, kr.attacks.FGSM(0.1, None)
    ),
    "InputGradientPenalty": lambda net: kr.models.InputGradientPenalty(net, 0.1),
    "FreeAdversarialTraining": lambda net: kr.models.FreeAdversarialTraining(
        net, 0.1, 2, bounds=None
    ),
}


@pytest.mark.parametrize("kind", MODELS)
def test_floating_ids_are_refused_by_attacks(kind):
    net = MODELS[kind]()
    net.compile("sgd", LOSS)
    floating = IDS.astype("float32")
    for attack in (kr.attacks.PGD(0.1, bounds=None), kr.attacks.VirtualAdversarial(0.1)):
        with pytest.raises(ValueError, match="Ids cannot be perturbed.*dtype float32"):
            attack(net, floating, Y)
    for layer in (layer for layer in net.layers):
        assert "call" not in vars(layer)


@pytest.mark.parametrize("kind", ["functional", "integer input", "sequential"])
@pytest.mark.parametrize("name", WRAPPERS)
def test_floating_ids_are_refused_in_training(name, kind):
    if (name, kind) == ("FreeAdversarialTraining", "integer input"):
        with pytest.raises(ValueError, match="needs floating inputs"):
            WRAPPERS[name](MODELS[kind]())
        return
    model = WRAPPERS[name](MODELS[kind]())
    model.compile("sgd", LOSS)
    weights = model.get_weights()
    with pytest.raises(ValueError, match="Ids cannot be perturbed"):
        model.fit(IDS.astype("float32"), Y, verbose=0)
    for a, b in zip(model.get_weights(), weights):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("position", [0, 1])
def test_ids_of_an_embedding_that_several_inputs_share_are_refused(position):
    table = layers.Embedding(7, 3)
    table(keras.Input((4,)))  # A call elsewhere.
    ids = [keras.Input((4,), name="first"), keras.Input((4,), name="second")]
    features = keras.Input((4, 3), name="features")
    read = layers.Add()([table(ids[0]), table(ids[1]), features])
    net = keras.Model([*ids, features], layers.Dense(3)(layers.Flatten()(read)))
    net.compile("sgd", LOSS)
    x = [IDS.astype("float32"), IDS.astype("float32"), RNG.random((*IDS.shape, 3), dtype="float32")]
    found = kr.attacks.FGSM(0.1, bounds=None, inputs=[2])(net, x, Y)
    np.testing.assert_array_equal(ops.convert_to_numpy(found[position]), x[position])
    with pytest.raises(ValueError, match=f"input {position} is read as ids by the embedding"):
        kr.attacks.FGSM(0.1, bounds=None, inputs=[position, 2])(net, x, Y)


def test_tied_weights_are_no_ids():
    """An embedding that maps features back, as language models do, is fed floats rightly."""
    features = keras.Input((4, 3))
    table = layers.ReversibleEmbedding(7, 3)
    table.build(None)
    net = keras.Model(features, table(layers.Dense(3)(features), reverse=True))
    net.compile("sgd", LOSS)
    x = RNG.normal(size=(2, 4, 3)).astype("float32")
    found = kr.attacks.FGSM(0.1, bounds=None)(net, x, RNG.integers(0, 7, (2, 4)))
    assert np.abs(ops.convert_to_numpy(found) - x).max() == pytest.approx(0.1, rel=1e-3)


def backbone():
    """Like those of KerasHub: a dictionary of inputs whose lengths are unknown, and a mask among them."""
    inputs = {
        "token_ids": keras.Input((None,), dtype="int32", name="token_ids"),
        "padding_mask": keras.Input((None,), dtype="int32", name="padding_mask"),
    }
    x = layers.Embedding(7, 4, name="token_embedding")(inputs["token_ids"])
    mask = ops.cast(inputs["padding_mask"], "bool")
    attended = layers.MultiHeadAttention(2, 2)(
        x, x, attention_mask=ops.expand_dims(mask, 1), use_causal_mask=False
    )
    return keras.Model(inputs, layers.LayerNormalization()(x + attended), name="backbone")


def classifier():
    keras.utils.set_random_seed(0)
    body = backbone()
    scores = layers.Dense(3, name="head")(body(body.input)[:, 0])
    return keras.Model(body.input, scores)


def language_model():
    keras.utils.set_random_seed(0)
    body = backbone()
    return keras.Model(body.input, layers.Dense(7)(body(body.input)))


@pytest.mark.parametrize("length", [4, 3])
@pytest.mark.parametrize("name", ["VAT", "AdversarialTraining", "InputGradientPenalty", "ELLE"])
@pytest.mark.parametrize("build", [classifier, language_model])
def test_transformers_of_unknown_lengths_are_attacked_at_their_embedding(build, name, length):
    place = {"layer": "token_embedding"}
    attack = kr.attacks.FGSM(0.1, bounds=None, **place)
    wrap = {
        "VAT": lambda net: kr.models.VAT(net, 0.5, evaluate_attack=attack, **place),
        "AdversarialTraining": lambda net: kr.models.AdversarialTraining(net, attack),
        "InputGradientPenalty": lambda net: kr.models.InputGradientPenalty(net, 0.1, **place),
        "ELLE": lambda net: kr.models.ELLE(net, 0.1, 10.0, attack=attack),
    }[name]
    model = wrap(build())
    model.compile("adam", LOSS)
    x = {"token_ids": IDS[:, :length], "padding_mask": MASK[:, :length]}
    y = Y if build is classifier else IDS[:, :length]
    history = model.fit(x, y, epochs=2, batch_size=3, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert np.isfinite(model.evaluate(x, y, verbose=0)).all()


@pytest.mark.parametrize("compiled", [True, False])
def test_robust_accuracy_of_a_transformer(compiled):
    net = classifier()
    if compiled:
        net.compile("adam", LOSS)
    x = {"token_ids": IDS, "padding_mask": MASK}
    attack = kr.attacks.PGD(0.5, 0.2, 3, bounds=None, layer="token_embedding")
    accuracy = kr.analysis.robust_accuracy(net, x, Y, attack, batch_size=4)
    assert accuracy <= np.mean(np.argmax(net.predict(x, verbose=0), axis=1) == Y)


def test_other_inputs_are_moved_and_ids_are_not():
    words, x = keras.Input((4,), name="words"), keras.Input((4,), name="x")
    joined = layers.Concatenate()([layers.Flatten()(layers.Embedding(7, 4)(words)), x])
    net = keras.Model({"words": words, "x": x}, layers.Dense(3)(joined))
    floats, integers = ({"words": IDS.astype(d), "x": X} for d in ("float32", "int32"))
    model = kr.models.VAT(net)
    model.compile("sgd", LOSS)
    with pytest.raises(ValueError, match="Ids cannot be perturbed"):
        model.fit(floats, Y, verbose=0)
    assert np.isfinite(model.fit(integers, Y, verbose=0).history["loss"]).all()
    chosen = kr.models.FunctionalEntropyRegularization(net, inputs=["x"], factor=1e-3)
    chosen.compile("sgd", LOSS)
    assert np.isfinite(chosen.fit(floats, Y, verbose=0).history["loss"]).all()
    chosen = kr.models.FunctionalEntropyRegularization(net, inputs=["x", "words"])
    chosen.compile("sgd", LOSS)
    with pytest.raises(ValueError, match="input 'words'"):
        chosen.fit(floats, Y, verbose=0)


def test_a_layer_of_a_model_with_several_outputs():
    found = []
    for several in (False, True):
        keras.utils.set_random_seed(1)
        words = keras.Input((4,), dtype="int32")
        hidden = layers.Flatten()(layers.Embedding(7, 4, name="words")(words))
        scores = layers.Dense(3)(hidden)
        net = keras.Model(words, [scores, layers.Flatten()(hidden)] if several else scores)
        model = kr.models.VAT(net, 1.0, layer="words", seed=1)
        model.compile(
            keras.optimizers.SGD(0.0), [LOSS, None] if several else LOSS, run_eagerly=True
        )
        found.append(float(model.train_on_batch(IDS, [Y, np.zeros(6)] if several else Y)))
    assert found[1] == pytest.approx(found[0], rel=1e-5)
