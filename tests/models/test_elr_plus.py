"""models.ELRPlus: each network is held to the averages of what the other one's average predicts."""

import keras
import numpy as np
import pytest
from counting import count, counting_model
from keras import layers
from sklearn.datasets import load_digits

import keras_regularize as kr

RNG = np.random.RandomState(0)
X, Y = RNG.rand(8, 4).astype("float32"), RNG.randint(0, 3, 8)
W = np.linspace(0.5, 1.5, 8)
INDEX = np.arange(8)[::-1].copy()
LABELS = {"label": Y, "index": INDEX}
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
# On TensorFlow a compiled step draws other numbers than an eager one.
EAGERLY = {"run_eagerly": keras.backend.backend() != "jax"}


def network(seed):
    keras.utils.set_random_seed(seed)
    dense = layers.Dense(3, kernel_initializer=keras.initializers.RandomNormal(0.0, 1.0))
    return keras.Sequential([keras.Input((4,)), dense])


def elr_plus(**arguments):
    return kr.models.ELRPlus(network(1), network(2), 10, 3, **{"seed": 4, **arguments})


def compiled(model, rate=0.5):
    model.compile(keras.optimizers.SGD(rate), LOSS, **EAGERLY)
    return model


def step(model, y=LABELS, **weights):
    return float(model.train_on_batch(X, y, **weights))


def softmax(x, weights):
    z = x @ weights[0] + weights[1]
    p = np.exp(z - z.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def slopes(function, weights, size=1e-5):
    """Central differences of a function of a list of arrays."""
    result = []
    for w in weights:
        slope = np.zeros_like(w)
        for at in np.ndindex(w.shape):
            here, values = w[at], []
            for sign in (1, -1):
                w[at] = here + sign * size
                values.append(function(weights))
            w[at] = here
            slope[at] = (values[0] - values[1]) / (2 * size)
        result.append(slope)
    return result


def test_steps_follow_the_formula():
    warmup = 2
    model = compiled(elr_plus(momentum=0.6, factor=2.0, ema_momentum=0.9, ema_warmup_steps=warmup))
    nets = [
        [w.astype("float64") for w in net.get_weights()] for net in (model.model, model.model_b)
    ]
    averages = [[w.copy() for w in net] for net in nets]
    memory = np.zeros((10, 2, 3))
    draws = keras.random.SeedGenerator(4)
    for s in range(3):
        share = float(keras.random.uniform((), 0.5, 1.0, seed=draws))
        partners = np.array(
            keras.ops.convert_to_numpy(keras.random.shuffle(np.arange(8), seed=draws))
        )
        keep = 0.9 * np.exp(-5 * (1 - min(s, warmup) / warmup) ** 2) if s else 0.0
        for average, net in zip(averages, nets):
            for i, w in enumerate(net):
                average[i] = keep * average[i] + (1 - keep) * w
        for i in (0, 1):
            memory[INDEX, i] = 0.6 * memory[INDEX, i] + 0.4 * softmax(X, averages[1 - i])

        total, mixed = 0.0, share * X + (1 - share) * X[partners]
        for i, net in enumerate(nets):
            t = share * memory[INDEX, i] + (1 - share) * memory[INDEX[partners], i]

            def loss(weights, t=t):
                p = softmax(mixed, weights)  # noqa: B023
                own = -W * np.log(p[np.arange(8), Y])
                other = -W[partners] * np.log(p[np.arange(8), Y[partners]])  # noqa: B023
                penalty = np.log(1 - np.sum(t * np.clip(p, 1e-4, 1 - 1e-4), axis=-1))
                return np.mean(share * own + (1 - share) * other + 2.0 * penalty)  # noqa: B023

            total += loss(net)
            for w, slope in zip(net, slopes(loss, net)):
                w -= 0.5 * slope

        model.reset_metrics()
        assert step(model, sample_weight=W.astype("float32")) == pytest.approx(total, abs=1e-5)
        np.testing.assert_allclose(model.memory.numpy(), memory, atol=1e-5)
        for net, expected in zip((model.model, model.model_b), nets):
            for got, wanted in zip(net.get_weights(), expected):
                np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_gradient_rules_go_around_and_passes_are_counted():
    (a, one), (b, other) = counting_model(), counting_model()
    model = kr.models.ELRPlus(a, b, 10, 3, seed=4)
    model = compiled(kr.models.SAM(model, rho=0.1))
    step(model)  # Tracing done.
    assert tuple(count(one, lambda: step(model))) == (3, 2, 2) and one.passes == other.passes


def test_unknown_indices_and_unlabelled_rows_and_nothing_finite():
    model = compiled(kr.models.VAT(elr_plus(), factor=0.0, seed=1), rate=0.0)
    y = {"label": np.where(Y == 0, -1, Y), "index": np.where(INDEX == 3, 12, INDEX)}
    model.check_columns = lambda columns: None  # As with a dataset, which is not read.
    x = X.copy()
    x[np.flatnonzero(INDEX == 5)] = np.nan
    model.train_on_batch(x, y)
    memory = model.model.memory.numpy()
    assert np.isfinite(memory).all()
    written = memory.any(axis=(1, 2))
    np.testing.assert_array_equal(
        written, [*np.isin(np.arange(8), (3, 5), invert=True), False, False]
    )


def test_training_goes_on_after_loading(tmp_path):
    model = compiled(elr_plus(ema_warmup_steps=1))
    step(model), step(model)
    model.save(tmp_path / "m.keras")
    restored = keras.models.load_model(tmp_path / "m.keras")
    restored.run_eagerly = EAGERLY["run_eagerly"]
    for m in (model, restored):
        m.reset_metrics()
    assert step(restored) == pytest.approx(step(model), rel=1e-5)
    for a, b in zip(restored.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    # Four weights, their averages and the memory.
    assert len(model.get_weights()) == 9


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"momentum": 1.0}, "`momentum` must be a number at least 0 and below 1"),
        ({"ema_momentum": 1.5}, "`ema_momentum` must be a number at least 0 and at most 1"),
        ({"ema_warmup_steps": 0}, "`ema_warmup_steps` must be an integer of at least 1"),
        ({"seed": 0.5}, "`seed` must be an integer"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        elr_plus(**arguments)


@pytest.mark.parametrize(
    "x, y, message",
    [
        (X, Y, "ELRPlus needs the index of each sample"),
        (X, {"label": Y, "index": INDEX + 5}, "Received indices from 5 to 12"),
        (X.astype("int32"), LABELS, r"must be floating: .* Received dtypes \['int32'\]"),
    ],
)
def test_bad_data(x, y, message):
    with pytest.raises(ValueError, match=message):
        compiled(elr_plus()).fit(x, y, verbose=0)


def test_wrong_labels_are_not_memorized():
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    rng = np.random.default_rng(0)
    train, test = slice(0, 600), slice(600, None)
    wrong = rng.random(600) < 0.4
    noisy = np.where(wrong, (y[train] + rng.integers(1, 10, 600)) % 10, y[train])
    nets = []
    for seed in (0, 1):
        keras.utils.set_random_seed(seed)
        nets.append(
            keras.Sequential([keras.Input((64,)), layers.Dense(128, "relu"), layers.Dense(10)])
        )
    model = kr.models.ELRPlus(*nets, 600, 10, ema_warmup_steps=120, seed=0)
    model.compile(keras.optimizers.Adam(5e-3), LOSS)
    model.fit(x[train], kr.utils.with_index(noisy), batch_size=100, epochs=40, verbose=0)
    predicted = model.predict(x, batch_size=2000, verbose=0).argmax(-1)
    assert np.mean(predicted[test] == y[test]) > 0.8
    assert np.mean(predicted[train][wrong] == noisy[wrong]) < 0.1
