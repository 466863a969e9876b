"""Captions by modules against loops over words, and their search."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_regularize as kr
from keras_regularize.autodiff import backend
from tests.helpers import array, normal, number, softmax

FEATURES = normal(4, 3, 2)
# The third fills its line, the fourth is empty.
TOKENS = np.array([[1, 4, 2], [3, 0, 0], [2, 2, 1], [0, 0, 0]], "int32")
CLASSES = np.array([[0, 1, 3], [2, 0, 0], [-1, 1, 0], [0, 0, 0]], "int32")
# TensorFlow takes long to trace the steps, which it writes out: where that is not the point it does not.
EAGER = keras.backend.backend() == "tensorflow"
JIT = "auto" if keras.backend.backend() == "jax" else False
INPUTS = {"features": FEATURES, "tokens": TOKENS}


def captioner(rate=0.1, run_eagerly=EAGER, **options):
    keras.utils.set_random_seed(0)
    model = kr.models.ModularCaptioner(5, 4, 2, **options)
    model.compile(keras.optimizers.SGD(rate), run_eagerly=run_eagerly)
    model.build({name: x.shape for name, x in INPUTS.items()})
    # Further from 0, so that words differ.
    model.set_weights([2.0 * w for w in model.get_weights()])
    return model


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


def lstm(cell, x, state):
    kernel, recurrent, bias = cell.get_weights()
    i, f, c, o = np.split(x @ kernel + state[0] @ recurrent + bias, 4)
    memory = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(c)
    return sigmoid(o) * np.tanh(memory), memory


def logits_of_a_loop(model, features, tokens):
    """Logits of the words and of the modules for one image."""
    units, choose = model.units, backend.compiled(model.controller.step)
    kernel, bias = model._regions.get_weights()
    regions = [np.maximum(v @ kernel + bias, 0).reshape(4, units) for v in features]
    kernel, bias = model._image.get_weights()
    image = np.maximum(np.mean(regions, axis=0).reshape(-1) @ kernel + bias, 0)
    embedding = model._embedding.get_weights()[0]
    keys, key_bias = model._keys.get_weights()
    (query,), (scores,) = model._query.get_weights(), model._scores.get_weights()
    h = g = (np.zeros(units), np.zeros(units))
    heard, words, choices = np.zeros((len(tokens) + 2, units)), [], []
    for t, token in enumerate([0, *tokens]):
        x = np.concatenate([g[0], image, np.maximum(embedding[token], 0)])
        h = lstm(model._first, x, h)
        given = (ops.convert_to_tensor(v[None].astype("float32")) for v in (x, heard))
        there = ops.convert_to_tensor(np.arange(len(heard)) <= t)
        choice, heard[t + 1] = (array(v)[0] for v in choose(*given, there))
        asked = (h[0] @ query).reshape(4, units)
        found = []
        for k in range(4):
            fits = [scores[k] @ np.tanh(v[k] @ keys[k] + key_bias[k] + asked[k]) for v in regions]
            attention = softmax(np.array(fits))
            found.append(softmax(choice)[k] * sum(a * v[k] for a, v in zip(attention, regions)))
        g = lstm(model._second, np.concatenate([*found, h[0]]), g)
        kernel, bias = model._words.get_weights()
        words.append(g[0] @ kernel + bias)
        choices.append(choice)
    return np.array(words), np.array(choices[:-1])


@pytest.mark.everywhere
def test_logits_and_losses_are_the_formulas():
    model = captioner(run_eagerly=False)
    outputs = model.predict(INPUTS, verbose=0)
    captions, syntax = [], []
    for i, (words, tags) in enumerate(zip(TOKENS, CLASSES)):
        logits, choices = logits_of_a_loop(model, FEATURES[i], words)
        np.testing.assert_allclose(outputs["tokens"][i], logits, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(outputs["part_of_speech"][i], choices, rtol=1e-4, atol=1e-4)
        length = np.count_nonzero(words)
        for t, word in enumerate([*words[:length], 0]):
            captions.append(-np.log(softmax(logits[t])[word]))
        for t, tag in enumerate(tags[:length]):
            if tag >= 0:
                syntax.append(-np.log(softmax(choices[t])[tag]))
    assert (len(captions), len(syntax)) == (11, 6)
    caption = model.evaluate(INPUTS, verbose=0)
    assert caption == pytest.approx(np.mean(captions), rel=1e-4)
    # A weight of 0 takes a caption out; Keras divides by the number of all.
    weight = np.array([1, 1, 1, 0], "float32")
    weighted = model.evaluate(INPUTS, CLASSES, sample_weight=weight, verbose=0)
    assert weighted == pytest.approx(0.75 * np.mean(captions[:-1]), rel=1e-4)
    step = np.mean(captions) + 0.1 * np.mean(syntax)
    assert float(np.asarray(model.train_on_batch(INPUTS, CLASSES))) == pytest.approx(step, rel=1e-4)


def test_small_integers_are_classes_too():
    model, classes = captioner(), np.maximum(CLASSES, 0)
    outputs = model(INPUTS)
    losses = [
        number(model.compute_loss(INPUTS, classes.astype(dtype), outputs))
        for dtype in ("int32", "uint8")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.everywhere
def test_the_syntax_loss_ends_with_its_epochs(tmp_path):
    model = captioner(rate=0.0, run_eagerly=False, syntax_epochs=2)
    losses = model.fit(INPUTS, CLASSES, batch_size=4, epochs=4, verbose=0).history["loss"]
    captions = model.evaluate(INPUTS, verbose=0)
    assert losses[1] == pytest.approx(losses[0], rel=1e-5) and losses[0] > captions + 0.01
    np.testing.assert_allclose(losses[2:], captions, rtol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert number(loaded.epoch) == 3 and loaded.get_config() == model.get_config()
    np.testing.assert_array_equal(loaded.generate(FEATURES, 3, 2), model.generate(FEATURES, 3, 2))


def total(model, tokens):
    """Log-probabilities of captions, of which those with a 0 have ended."""
    inputs = {"features": FEATURES, "tokens": tokens}
    scores = np.log(softmax(model.predict(inputs, verbose=0)["tokens"].astype("float64")))
    totals = []
    for caption, words in zip(tokens, scores):
        length = np.count_nonzero(caption)
        counted = [*caption[:length], 0][: len(caption)]
        totals.append(sum(words[t, word] for t, word in enumerate(counted)))
    return np.array(totals)


def test_greedy_captions_are_the_best_words_and_beams_find_better_ones():
    model, length = captioner(), 4
    best = np.zeros((4, length), "int32")
    for t in range(length):
        scores = model.predict({"features": FEATURES, "tokens": best}, verbose=0)["tokens"]
        ended = (best[:, t - 1] == 0) if t else np.zeros(4, bool)
        best[:, t] = np.where(ended, 0, scores[:, t].argmax(-1))
    greedy = model.generate(FEATURES, length)
    np.testing.assert_array_equal(greedy, best)
    wide = model.generate(FEATURES, length, beam_size=3)
    gains = total(model, wide) - total(model, greedy)
    assert gains.min() > -1e-5 and gains.max() > 0.01, gains
    # As many beams as there are captions of two words find the best of all.
    everything = np.array([[a, b] for a in range(5) for b in range(5) if a or not b], "int32")
    found = model.generate(FEATURES, 2, beam_size=len(everything))
    totals = [total(model, np.tile(caption, (4, 1))) for caption in everything]
    np.testing.assert_array_equal(found, everything[np.argmax(totals, axis=0)])


@pytest.mark.rotating
def test_learns_to_describe_images():
    # Of two regions, a thing and what it does: "the <thing> <does>".
    rng = np.random.default_rng(0)
    thing, does = rng.integers(0, 3, (2, 96))
    shown = np.stack([np.eye(6)[thing], np.eye(6)[3 + does]], axis=1).astype("float32")
    tokens = np.stack([np.ones(96), 2 + thing, 5 + does, np.zeros(96)], axis=1).astype("int32")
    keras.utils.set_random_seed(0)
    model = kr.models.ModularCaptioner(8, 16, 2, syntax_weight=1.0)
    model.compile(keras.optimizers.Adam(0.03), jit_compile=JIT)
    classes = np.tile(np.array([0, 1, 2, -1], "int32"), (96, 1))
    model.fit({"features": shown, "tokens": tokens}, classes, batch_size=24, epochs=8, verbose=0)
    assert np.mean(model.generate(shown, 4) == tokens) > 0.9
    choice = model.predict({"features": shown, "tokens": tokens}, verbose=0)["part_of_speech"]
    assert np.mean(choice.argmax(-1)[:, :3] == classes[:, :3]) > 0.9


@pytest.mark.everywhere
def test_ids_that_are_no_words_have_no_caption():
    model, tokens = captioner(), TOKENS[:3, :1].astype("float32")
    for wrong in (-1.0, 5.0, 1.5):
        tokens[1] = wrong
        with pytest.raises(ValueError, match="token ids from 0 to 4. Received: \\["):
            model({"features": FEATURES[:3], "tokens": tokens})
    if keras.backend.backend() == "torch":
        return
    run = backend.compiled(lambda v, w: model({"features": v, "tokens": w})["tokens"])
    for wrong in (-1.0, 5.0, 1.5):
        tokens[1] = wrong
        logits = array(run(ops.convert_to_tensor(FEATURES[:3]), ops.convert_to_tensor(tokens)))
        assert np.isnan(logits[1]).all() and np.isfinite(logits[[0, 2]]).all()


def test_half_precision_leaves_ids_as_they_are():
    words = np.array([[257, 300]], "float32")  # Not in bfloat16.
    model = kr.models.ModularCaptioner(400, 4, 2, dtype="mixed_bfloat16")
    outputs = [
        array(model({"features": FEATURES[:1], "tokens": words.astype(dtype)})["tokens"])
        for dtype in ("int32", "float32")
    ]
    np.testing.assert_array_equal(*outputs)


if keras.backend.backend() == "tensorflow":

    @pytest.mark.everywhere
    def test_the_length_of_captions_may_be_unknown():
        model = captioner(0.0)
        given = [({"features": FEATURES, "tokens": TOKENS[:, :n]}, CLASSES[:, :n]) for n in (3, 2)]
        expected = [model.fit(*batch, verbose=0).history["loss"][0] for batch in given]
        model.compile(keras.optimizers.SGD(0.0), jit_compile=False)
        batches = (batch for batch in given)
        logs = model.fit(batches, steps_per_epoch=2, shuffle=False, verbose=0).history
        np.testing.assert_allclose(logs["loss"], [np.mean(expected)], rtol=1e-5)


def test_what_the_captioner_refuses():
    with pytest.raises(ValueError, match="divisible by `num_heads`"):
        kr.models.ModularCaptioner(5, 6, 4)
    with pytest.raises(ValueError, match="`syntax_weight`"):
        kr.models.ModularCaptioner(5, 4, 2, syntax_weight=-1.0)
    model = kr.models.ModularCaptioner(5, 4, 2)
    with pytest.raises(ValueError, match="compile` takes none"):
        model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="needs a built model"):
        model.generate(FEATURES, 3)
    with pytest.raises(ValueError, match="batch, regions, features"):
        model({"features": FEATURES[0], "tokens": TOKENS})
    for given in ([FEATURES, TOKENS], {"features": FEATURES}):
        with pytest.raises(ValueError, match="Expected inputs"):
            kr.models.ModularCaptioner(5, 4, 2)(given)
    wrong = {
        "a part of speech of each word.*Received: None": (None,),
        "a part of speech of each word.*shape": (CLASSES[:, :2],),
        "weights of captions": (CLASSES, np.ones((4, 3), "float32")),
    }
    for message, labels in wrong.items():
        model.compile("sgd", run_eagerly=EAGER)
        with pytest.raises(ValueError, match=message):
            model.train_on_batch(INPUTS, *labels)
    with pytest.raises(ValueError, match="no `class_weight`"):
        model.fit(INPUTS, CLASSES, class_weight={0: 2.0}, verbose=0)
    with pytest.raises(ValueError, match="`beam_size`"):
        model.generate(FEATURES, 3, beam_size=0)
