"""
# Text that does not repeat itself

A language model that always says its best word soon says the same thing over and over: what was said makes itself more
likely, and no probability of the training data speaks against it. The cure is to train on what the model says itself. This
guide trains a small model of sentences, shows how it repeats itself, and compares three losses that make it stop.

**Use this when** a language model is decoded greedily, or by beams, and gets caught in loops. Fine-tune one that predicts
well already.

**Do not when** you draw from the model anyway: with nucleus sampling or a temperature loops are rare. And where repeats
are right, as in code or tables, a reward for different n-grams makes text worse.
"""

import keras
import matplotlib.pyplot as plt
import numpy as np

import keras_regularize as kr

EPOCHS = 12

"""
## Sentences

A grammar of sentences such as "the old cat sees a dog .", where what a cat does most is not what a dog does most. Texts are
24 words long; the model predicts each word from those before.
"""

PARTS = {
    "article": ["the", "a"],
    "adjective": ["old", "small", "red"],
    "noun": ["cat", "dog", "bird", "child", "robot", "queen"],
    "verb": ["sees", "likes", "hears", "follows", "meets"],
}
WORDS = [word for words in PARTS.values() for word in words] + ["."]
generator = np.random.default_rng(0)


def text(length=25):
    words, last = [], 0
    while len(words) < length:
        for part in ("article", "adjective", "noun", "verb", "article", "adjective", "noun"):
            if part == "adjective" and generator.random() < 0.7:
                continue
            choice = generator.geometric(0.6) - 1
            if part in ("noun", "verb"):
                choice = last = (last + choice) % len(PARTS[part])
            words.append(PARTS[part][choice % len(PARTS[part])])
        words.append(".")
    return [WORDS.index(word) for word in words[:length]]


texts = np.array([text() for _ in range(2304)], "int32")
train, test = texts[:2048], texts[2048:]
prefixes = test[:, :6]

"""
The model looks at the last 14 words, by two causal convolutions. `metrics.Perplexity` says how well it predicts the text of
others, `metrics.SequenceRepetition` which share of the 4-grams of its own text came before.
"""

cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network():
    keras.utils.set_random_seed(0)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(len(WORDS), 24),
            layers.Conv1D(48, 7, padding="causal", activation="relu"),
            layers.Conv1D(48, 8, padding="causal", activation="relu"),
            layers.Dense(len(WORDS)),
        ]
    )


def compiled(model, loss, rate):
    optimizer = keras.optimizers.Adam(rate, global_clipnorm=1.0)
    model.compile(optimizer, loss, metrics=[kr.metrics.Perplexity(from_logits=True)])
    return model


def measure(model):
    logs = model.evaluate(test[:, :-1], test[:, 1:], verbose=0, return_dict=True)
    said = kr.generative.greedy_continuation(model, prefixes, 30)
    shares = []
    for n in (1, 2, 3, 4, 6, 8):
        metric = kr.metrics.SequenceRepetition(n)
        metric.update_state(None, said)
        shares.append(float(metric.result()))
    return {"perplexity": logs["perplexity"], "shares": np.array(shares), "said": said}


def read(tokens):
    return " ".join(WORDS[token] for token in tokens)


rate = keras.optimizers.schedules.CosineDecay(1e-2, EPOCHS * len(train) // 64)
first = compiled(network(), cross_entropy, rate)
first.fit(train[:, :-1], train[:, 1:], batch_size=64, epochs=EPOCHS, verbose=0)
results = {"first training": measure(first)}
print(read(prefixes[0]), "…", read(results["first training"]["said"][0]))

"""
The perplexity is {results["first training"]["perplexity"]:.2f}, but {results["first training"]["shares"][3]:.0%} of the
4-grams that the model says, it has said before.

## Three ways out

All go on from there for as many steps. Repeats of greedy text swing, since one word changes all that follows: these are
means over the second half of them.

- `losses.TokenUnlikelihood` lowers the probability of all words that a text has used before. It needs no generation, but
  does not know which words make a loop.
- `models.ImplicitUnlikelihood` with `policy_rate=0` lets the model continue texts in a quarter of the steps, and lowers the
  probability of the n-grams that it repeats.
- With its `policy_rate`, in another quarter, continuations are rewarded for having different n-grams, whatever they are.
"""


def tuned(name, policy, unlikelihood, loss=cross_entropy):
    net, generator = network(), np.random.default_rng(1)
    net.set_weights(first.get_weights())
    model = kr.models.ImplicitUnlikelihood(net, 6, 30, 4, policy, unlikelihood, seed=0)
    compiled(model, loss, 1e-3)
    rows = []
    for epoch in range(EPOCHS):
        some = generator.choice(train, 1024)
        model.fit(some[:, :-1], some[:, 1:], batch_size=64, verbose=0)
        if epoch >= EPOCHS // 2:
            rows.append(measure(model))
    results[name] = {
        "perplexity": np.mean([row["perplexity"] for row in rows]),
        "shares": np.mean([row["shares"] for row in rows], axis=0),
        "said": rows[-1]["said"],
    }


tuned("likelihood alone", 0.0, 0.0)
tuned("token unlikelihood", 0.0, 0.0, kr.losses.TokenUnlikelihood(0.5))
tuned("sequence unlikelihood", 0.0, 0.25)
tuned("and policy steps", 0.25, 0.25)

for name, result in results.items():
    print(
        f"{name:24s} perplexity {result['perplexity']:.2f}   repeated 4-grams {result['shares'][3]:.3f}"
    )

"""
What the last one says:
"""

for i in range(3):
    print(read(prefixes[i]), "…", read(results["and policy steps"]["said"][i]))

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
for name, result in results.items():
    left.plot(result["shares"][3], result["perplexity"], "o", label=name)
    right.plot([1, 2, 3, 4, 6, 8], result["shares"], ".-", label=name)
left.set(xlabel="repeated 4-grams", ylabel="perplexity", title="Repeats and predictions")
right.set(xlabel="length n", ylabel="share of n-grams", title="What was said before")
left.legend(fontsize=8)
plt.show()

"""
Going on with likelihood alone leaves {results["likelihood alone"]["shares"][3]:.0%} repeated 4-grams, token unlikelihood
{results["token unlikelihood"]["shares"][3]:.0%}, sequence unlikelihood {results["sequence unlikelihood"]["shares"][3]:.0%}
and both kinds of steps {results["and policy steps"]["shares"][3]:.0%}, at perplexities of
{results["likelihood alone"]["perplexity"]:.2f}, {results["token unlikelihood"]["perplexity"]:.2f},
{results["sequence unlikelihood"]["perplexity"]:.2f} and {results["and policy steps"]["perplexity"]:.2f}. Words have to come
again, so single words (n = 1) repeat in all of them.

## Hints

- Steps that generate cost `continuation_length` passes of the model, as nothing is cached. Lower the rates for large models;
  the paper takes a quarter each.
- Compare means over many prefixes, several times of the training and several seeds. Where words are nearly equally likely,
  greedy text is another after each step, and no comparison of single runs means anything.
- The logged loss is that of whichever step it was. Watch the perplexity on other text.
"""
