"""The models that train on a loss of clean and adversarial predictions."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from sklearn.datasets import load_digits

import keras_regularize as kr
from tests.counting import count, counting_model

RNG = np.random.RandomState(0)
X, Y = RNG.rand(12, 4).astype("float32"), RNG.randint(0, 3, 12)
WEIGHT = np.linspace(0, 2, 12).astype("float32")
ATTACK = kr.attacks.FGSM(0.1)

# Of every model: its strength, and its loss per sample.
MODELS = {
    kr.models.TRADES: ("beta", kr.losses.trades),
    kr.models.MART: ("beta", kr.losses.mart),
    kr.models.ARoW: ("factor", kr.losses.arow),
    kr.models.ALP: ("factor", kr.losses.adversarial_logit_pairing),
    kr.models.AdvCompSum: ("nu", kr.losses.smooth_adversarial_comp_sum),
}


def halving(start):
    return keras.optimizers.schedules.ExponentialDecay(start, 1, 0.5)


def network(outputs=3, last=None):
    keras.utils.set_random_seed(1)
    penalty = keras.regularizers.L2(0.05)
    hidden = layers.Dense(5, "tanh", kernel_regularizer=penalty)
    return keras.Sequential([keras.Input((4,)), hidden, layers.Dense(outputs, activation=last)])


def first_loss(model, loss, y=Y, **options):
    model.compile(keras.optimizers.SGD(0.0), loss)
    return model.fit(X, y, batch_size=12, shuffle=False, verbose=0, **options).history["loss"][0]


KINDS = {
    "logits": (3, None, keras.losses.SparseCategoricalCrossentropy(from_logits=True), Y),
    "probabilities": (3, "softmax", "sparse_categorical_crossentropy", Y),
    "binary": (1, None, keras.losses.BinaryCrossentropy(from_logits=True), (Y > 1)[:, None]),
    "binary probabilities": (1, "sigmoid", "binary_crossentropy", (Y > 1)[:, None]),
    "soft labels": (
        3,
        None,
        keras.losses.CategoricalCrossentropy(from_logits=True),
        RNG.dirichlet(np.ones(3), 12).astype("float32"),
    ),
}
COVERED = [
    *((cls, "logits") for cls in MODELS),
    (kr.models.TRADES, "binary probabilities"),
    (kr.models.MART, "soft labels"),
    (kr.models.MART, "binary"),
    (kr.models.ARoW, "probabilities"),
    (kr.models.ALP, "binary"),
    (kr.models.AdvCompSum, "binary probabilities"),
]


@pytest.mark.parametrize("cls, kind", COVERED, ids=lambda value: getattr(value, "__name__", value))
def test_objective_is_the_weighted_mean_of_the_loss_and_the_penalties(cls, kind):
    outputs, last, loss, y = KINDS[kind]
    strength, function = MODELS[cls]
    net = network(outputs, last)
    model = cls(net, ATTACK, **{strength: halving(1.5)})
    logged = first_loss(model, loss, y.astype("float32"), sample_weight=WEIGHT)
    attacked = ATTACK(model, X, y)
    scores = [ops.convert_to_numpy(net(x)).astype("float64") for x in (X, attacked)]
    if last == "sigmoid":
        scores = [np.log(p / (1 - p)) for p in scores]
    elif last == "softmax":
        scores = [np.log(p) for p in scores]
    scores = [s.astype("float32") for s in scores]
    values = ops.convert_to_numpy(function(y, *scores, **{strength: 1.5}))
    penalty = 0.05 * (net.layers[0].get_weights()[0] ** 2).sum()
    assert logged == pytest.approx((WEIGHT * values).mean() + penalty, rel=2e-4)
    assert np.abs(scores[0] - scores[1]).max() > 1e-2


def test_the_terms_of_a_wrapper_inside_stay():
    loss = KINDS["logits"][2]
    plain = first_loss(kr.models.ARoW(network(), ATTACK), loss)
    penalized = kr.models.WeightPenalty(network(), keras.regularizers.L1(1.0), factor=0.1)
    total = sum(np.abs(w).sum() for w in network().get_weights()[::2])
    assert first_loss(kr.models.ARoW(penalized, ATTACK), loss) == pytest.approx(
        plain + 0.1 * total, rel=1e-4
    )


@pytest.mark.parametrize(
    "cls, loss, forwards",
    [(kr.models.MART, "cross_entropy", 5), (kr.models.AdvCompSum, "margin_shift", 6)],
)
def test_passes(cls, loss, forwards):
    net, counter = counting_model()
    model = cls(net, kr.attacks.PGD(0.1, 0.05, 3, loss=loss))
    model.compile("sgd", KINDS["logits"][2], run_eagerly=keras.backend.backend() != "jax")
    model.train_on_batch(X, Y)
    passes = count(counter, lambda: model.train_on_batch(X, Y))
    # The attack's, and the two of the objective.
    assert passes == (forwards, 3 + 2, 2)


def test_text_through_a_layer():
    tokens = RNG.randint(0, 9, (12, 5))
    words = layers.Embedding(9, 4, name="words")
    net = keras.Sequential(
        [keras.Input((5,), dtype="int32"), words, layers.Flatten(), layers.Dense(3)]
    )
    attack = kr.attacks.PGD(0.1, 0.05, 2, loss="kl", layer="words", bounds=None)
    model = kr.models.ARoW(net, attack)
    model.compile("sgd", KINDS["logits"][2])
    before = words.get_weights()[0]
    assert np.isfinite(model.fit(tokens, Y, verbose=0).history["loss"]).all()
    assert np.abs(words.get_weights()[0] - before).max() > 1e-5


def test_configs_with_schedules():
    for cls, (strength, _) in MODELS.items():
        model = cls(network(), ATTACK, **{strength: halving(2.0)})
        restored = cls.from_config(model.get_config())
        assert getattr(restored, strength).get_config() == halving(2.0).get_config()


def test_bad_arguments_are_refused():
    for cls, (strength, _) in MODELS.items():
        with pytest.raises(ValueError, match=f"`{strength}` must be a number at least 0"):
            cls(network(), ATTACK, **{strength: -1.0})
        with pytest.raises(ValueError, match="`attack` must be an attack"):
            cls(network(), "pgd")
        model = cls(network(), ATTACK)
        model.compile("sgd", KINDS["logits"][2])
        with pytest.raises(ValueError, match=f"`{cls.__name__}` needs labels"):
            model.fit(X, verbose=0)
    with pytest.raises(ValueError, match="`rho` must be positive"):
        kr.models.AdvCompSum(network(), rho=0)
    with pytest.raises(ValueError, match="`label_smoothing` must be a number at least 0"):
        kr.models.ARoW(network(), label_smoothing=2)


@pytest.mark.rotating
def test_robust_training_is_robust():
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    weak = kr.attacks.PGD(0.1, 0.05, 3, loss="kl", seed=0)
    strong = kr.attacks.PGD(0.1, 0.025, 10, seed=0)

    def robust_accuracy(wrap):
        keras.utils.set_random_seed(0)
        net = keras.Sequential(
            [keras.Input((64,)), layers.Dense(64, activation="relu"), layers.Dense(10)]
        )
        model = wrap(net)
        model.compile(keras.optimizers.Adam(0.01), KINDS["logits"][2])
        model.fit(x[:1000], y[:1000], batch_size=100, epochs=8, verbose=0)
        # Of the network alone, which compiles less than the wrapper.
        net.compile(loss=KINDS["logits"][2])
        return kr.analysis.robust_accuracy(net, x[1000:1400], y[1000:1400], strong, 400)

    standard = robust_accuracy(lambda net: net)
    trades = robust_accuracy(lambda net: kr.models.TRADES(net, weak))
    arow = robust_accuracy(lambda net: kr.models.ARoW(net, weak))
    assert min(trades, arow) > standard + 0.2
