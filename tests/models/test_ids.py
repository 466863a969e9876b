"""Ids that are typed float before an embedding are no inputs that can be moved."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_regularize as kr

RNG = np.random.RandomState(0)
IDS, X, Y = RNG.randint(0, 9, (8, 5)), RNG.rand(8, 4).astype("float32"), RNG.randint(0, 3, 8)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def reader(kind):
    embedding = layers.Embedding(9, 4, name="words")
    if kind == "sequential":
        return keras.Sequential([keras.Input((5,)), embedding, layers.Flatten(), layers.Dense(3)])
    words = keras.Input((5,))
    return keras.Model(words, layers.Dense(3)(layers.Flatten()(embedding(words))))


MODELS = {
    "VAT": lambda net: kr.models.VAT(net),
    "TRADES": lambda net: kr.models.TRADES(net),
    "AdversarialTraining": lambda net: kr.models.AdversarialTraining(net, kr.attacks.FGSM(0.1)),
    "FunctionalEntropy": lambda net: kr.models.FunctionalEntropyRegularization(net),
}


@pytest.mark.parametrize("kind", ["sequential", "functional"])
@pytest.mark.parametrize("name", MODELS)
def test_floating_ids_are_an_error(name, kind):
    model = MODELS[name](reader(kind))
    model.compile("sgd", LOSS)
    with pytest.raises(ValueError, match="embedding 'words'.*as integers"):
        model.fit(IDS.astype("float32"), Y, verbose=0)
    with pytest.raises(ValueError, match="embedding 'words'"):
        kr.attacks.FGSM(0.1)(reader(kind), IDS.astype("float32"), Y)


def test_other_inputs_are_moved_and_ids_are_not():
    words, x = keras.Input((5,), name="words"), keras.Input((4,), name="x")
    joined = layers.Concatenate()([layers.Flatten()(layers.Embedding(9, 4)(words)), x])
    net = keras.Model({"words": words, "x": x}, layers.Dense(3)(joined))
    floats, integers = ({"words": IDS.astype(d), "x": X} for d in ("float32", "int32"))
    model = kr.models.VAT(net)
    model.compile("sgd", LOSS)
    with pytest.raises(ValueError, match="input 'words'"):
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
        words = keras.Input((5,), dtype="int32")
        hidden = layers.Flatten()(layers.Embedding(9, 4, name="words")(words))
        scores = layers.Dense(3)(hidden)
        net = keras.Model(words, [scores, layers.Flatten()(hidden)] if several else scores)
        model = kr.models.VAT(net, 1.0, layer="words", seed=1)
        model.compile(
            keras.optimizers.SGD(0.0), [LOSS, None] if several else LOSS, run_eagerly=True
        )
        found.append(float(model.train_on_batch(IDS, [Y, np.zeros(8)] if several else Y)))
    assert found[1] == pytest.approx(found[0], rel=1e-5)
