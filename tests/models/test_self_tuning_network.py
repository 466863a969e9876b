"""Self-tuning networks: both steps against NumPy, the data they are fed with, and what they find."""

import itertools

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

import keras_regularize as kr
from keras_regularize.models._paired_batches import batches
from tests.helpers import array

RATE = kr.hyper.Hyperparameter("dropout", 0.2, 0.0, 0.9)
NOISE = kr.hyper.Hyperparameter("noise", 0.3, lower=0.0)


def linear(style="stn", seed=0):
    """A linear model of three features, whose one hyperparameter acts through the response alone."""
    keras.utils.set_random_seed(seed)
    x, h = keras.Input((3,)), keras.Input((1,))
    layer = kr.layers.SelfTuningDense(1, hyper_initializer=keras.initializers.RandomNormal(0, 0.5))
    return keras.Model([x, h], layer([x, h]))


def network(seed=0, units=8, outputs=1):
    keras.utils.set_random_seed(seed)
    x, h, values = keras.Input((3,)), keras.Input((2,)), keras.Input((2,))
    z = kr.layers.HyperGaussianNoise(1, seed=1)([x, values])
    z = kr.layers.SelfTuningDense(units, "tanh")([z, h])
    z = kr.layers.HyperDropout(0, seed=2)([z, values])
    return keras.Model([x, h, values], kr.layers.SelfTuningDense(outputs)([z, h]))


def model(net=None, compiled=True, hyperparameters=(RATE, NOISE), **options):
    options = {"warmup_epochs": 0, "train_steps": 1, "seed": 5, **options}
    made = kr.models.SelfTuningNetwork(net or network(), list(hyperparameters), **options)
    if compiled:
        made.compile(keras.optimizers.Adam(0.01), "mse")
    return made


def data(n=24, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)).astype("float32")
    return x, (x[:, :1] - x[:, 1:2] + rng.normal(size=(n, 1))).astype("float32")


VALIDATION = data(12, 1)


def values_of(made):
    return np.concatenate([array(made.raw_values), array(made.scale_logits)])


@pytest.mark.everywhere
@pytest.mark.parametrize("style", ["stn", "delta"])
def test_steps_equal_those_of_numpy(style):
    hyper = kr.hyper.Hyperparameter("a", 0.4, lower=0.0, perturbation_scale=0.8)
    sgd = keras.optimizers.SGD
    made = kr.models.SelfTuningNetwork(
        linear(), [hyper], 1, 1, 0, True, 0.1, style, sgd(0.3), sgd(0.2), seed=3
    )
    made.compile(sgd(0.1), "mse")
    start = [array(w).astype("float64") for w in made.innermost.weights]
    (x, y), (x_val, y_val) = data(5), data(4, 1)
    # The draws of the step: of the weights first.
    seeds = keras.random.SeedGenerator(3)
    noise, noise_val = (array(keras.random.normal((n, 1), seed=seeds)) for n in (5, 4))

    raw, logit = np.log(np.expm1(0.4)), np.log(np.expm1(0.8))
    center = raw if style == "delta" else 0.0

    def passed(weights, x, y, h):
        """Errors' derivatives, and gradients of the weights."""
        k, b, rk, rb, c = weights
        e = h @ c
        d = 2 * (x @ k + b + e[:, :1] * (x @ rk) + e[:, 1:] * rb - y) / len(x)
        parts = np.concatenate([d * (x @ rk), d * rb], axis=1)
        grads = [x.T @ d, d.sum(0), x.T @ (d * e[:, :1]), (d * e[:, 1:]).sum(0), h.T @ parts]
        return parts, grads

    h = raw - center + 0.8 * noise
    if style == "delta":
        grads = passed(start, x, y, 0 * h)[1][:2] + passed(start, x, y, h)[1][2:]
    else:
        grads = passed(start, x, y, h)[1]
    weights = [w - 0.1 * g for w, g in zip(start, grads)]
    in_h = passed(weights, x_val, y_val, raw - center + 0.8 * noise_val)[0] @ weights[4].T
    sigmoid = 1 / (1 + np.exp(-logit))
    raw_new = raw - 0.3 * in_h.sum()
    logit_new = logit - 0.2 * ((in_h * noise_val).sum() * sigmoid - 0.1 * sigmoid / 0.8)

    made.train_on_batch(x, {"label": y, "validation": ((x_val, y_val),)})
    for got, expected in zip(made.innermost.weights, weights):
        np.testing.assert_allclose(array(got), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(values_of(made), [raw_new, logit_new], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(made.values["a"], np.log1p(np.exp(raw_new)), rtol=1e-4)
    np.testing.assert_allclose(made.scales["a"], np.log1p(np.exp(logit_new)), rtol=1e-4)


@pytest.mark.once
def test_each_step_moves_what_is_its_own():
    x, y = data()
    made = model(warmup_epochs=2, train_steps=2)
    made.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=True)
    start = values_of(made)
    moved = []
    for _ in range(2):
        for _ in range(4):
            weights = made.innermost.get_weights()
            made.train_on_batch(x, {"label": y, "validation": (VALIDATION,)})
            assert not np.array_equal(weights[0], made.innermost.get_weights()[0])
            moved.append(not np.array_equal(start, values_of(made)))
            start = values_of(made)
        made.end_epoch()
    assert moved == [False] * 8  # The warm-up.
    for _ in range(4):
        made.train_on_batch(x, {"label": y, "validation": (VALIDATION,)})
        moved.append(not np.array_equal(start, values_of(made)))
        start = values_of(made)
    assert moved[8:] == [False, True, False, True]
    # The hyperparameters alone.
    made.compile(keras.optimizers.SGD(0.0), "mse", run_eagerly=True)
    weights = made.innermost.get_weights()
    made.fit(x, y, validation_data=VALIDATION, epochs=2, verbose=0)
    assert not np.array_equal(start, values_of(made))
    for got, expected in zip(made.innermost.get_weights(), weights):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.once
def test_scales_stay_if_they_are_not_tuned():
    made = model(tune_scales=False)
    start = values_of(made)
    made.fit(*data(), validation_data=VALIDATION, verbose=0)
    moved = values_of(made) != start
    np.testing.assert_array_equal(moved, [True, True, False, False])


def test_prediction_and_evaluation_are_without_noise():
    made, (x, y) = model(), data()
    made.fit(x, y, validation_data=VALIDATION, verbose=0)
    raw = np.broadcast_to(array(made.raw_values), (24, 2))
    values = np.broadcast_to(np.array(list(made.values.values()), "float32"), (24, 2))
    expected = array(made.innermost([x, raw, values]))
    np.testing.assert_allclose(made.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        made.evaluate(x, y, verbose=0), ((expected - y) ** 2).mean(), rtol=1e-5
    )
    np.testing.assert_allclose(array(made(x)), expected, rtol=1e-5, atol=1e-6)


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y, size):
        super().__init__()
        self.x, self.y, self.size = x, y, size

    def __len__(self):
        return -(-len(self.x) // self.size)

    def __getitem__(self, i):
        rows = slice(i * self.size, (i + 1) * self.size)
        return self.x[rows], self.y[rows]


@pytest.mark.once
def test_any_data_gives_the_same_training():
    torch = pytest.importorskip("torch")
    x, y = data()

    def generator():
        while True:
            yield from (Batches(x, y, 8)[i] for i in range(3))

    def loader(*arrays):
        tensors = torch.utils.data.TensorDataset(*map(torch.as_tensor, arrays))
        return torch.utils.data.DataLoader(tensors, 8)

    given = [
        ((x, y, 8), {"validation_data": VALIDATION}),
        ((Batches(x, y, 8),), {"validation_data": Batches(*VALIDATION, 8)}),
        ((generator(),), {"validation_data": Batches(*VALIDATION, 8), "steps_per_epoch": 3}),
        (
            (np.concatenate([x, VALIDATION[0]]), np.concatenate([y, VALIDATION[1]]), 8),
            {"validation_split": 1 / 3},
        ),
        ((loader(x, y),), {"validation_data": loader(*VALIDATION)}),
    ]
    results = []
    for arguments, options in given:
        made = model(validation_steps=2)
        history = made.fit(*arguments, epochs=2, shuffle=False, verbose=0, **options).history
        assert set(history) == {"loss", "val_loss", "dropout", "noise"}
        assert history["dropout"][-1] == pytest.approx(made.values["dropout"])
        results.append(np.concatenate([values_of(made), *map(np.ravel, made.get_weights())]))
    # The last validation batch of arrays is filled up.
    np.testing.assert_array_equal(results[0], results[3])
    np.testing.assert_array_equal(results[1], results[2])
    np.testing.assert_array_equal(results[1], results[4])
    assert not np.array_equal(results[0], results[1])


def test_going_on_from_a_file_is_exact(tmp_path):
    x, y = data()

    def trained(made, epochs):
        # By a split at an epoch of the warm-up, so that this is kept too.
        made.fit(x, y, 8, epochs, validation_data=VALIDATION, shuffle=False, verbose=0)
        return np.concatenate([values_of(made), *map(np.ravel, made.get_weights())])

    keras.utils.set_random_seed(0)
    whole = trained(model(warmup_epochs=2), 4)
    first = model(warmup_epochs=2)
    trained(first, 3)
    first.save(tmp_path / "model.keras")
    second = keras.models.load_model(tmp_path / "model.keras")
    assert second.hyperparameters == [RATE, NOISE] and int(second.epochs) == 3
    np.testing.assert_array_equal(trained(second, 1), whole)


@pytest.mark.everywhere
def test_several_steps_in_one_execution():
    if keras.backend.backend() == "torch":
        pytest.skip("Keras runs one step at a time on torch")
    x, y = data()
    results = []
    for steps in (1, 3):
        made = model(train_steps=2)
        made.compile(keras.optimizers.Adam(0.01), "mse", steps_per_execution=steps)
        made.fit(x, y, 4, 2, validation_data=VALIDATION, shuffle=False, verbose=0)
        results.append(np.concatenate([values_of(made), *map(np.ravel, made.get_weights())]))
    np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("style", ["stn", "delta"])
def test_mixed_precision(style):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        made = model(style=style)
        start = values_of(made)
        made.fit(*data(), validation_data=VALIDATION, epochs=2, verbose=0)
    finally:
        keras.config.set_dtype_policy(policy)
    assert np.isfinite(values_of(made)).all() and (values_of(made) != start).all()
    assert all(np.isfinite(w).all() for w in made.get_weights())


def test_a_step_that_overflows_leaves_hyperparameters_as_they_are():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        made = model()
        start = values_of(made)
        x, y = data()
        made.train_on_batch(x, {"label": y, "validation": ((VALIDATION[0], 1e30 + VALIDATION[1]),)})
    finally:
        keras.config.set_dtype_policy(policy)
    np.testing.assert_array_equal(values_of(made), start)


@pytest.mark.once
def test_another_wrapper_inside_and_weights_of_samples():
    (x, y), weight = data(), np.repeat([1.0, 0.0], 12).astype("float32")
    made = model(kr.models.SAM(network()))
    made.fit(x, y, validation_data=VALIDATION, sample_weight=weight, shuffle=False, verbose=0)
    plain = model(kr.models.SAM(network()))
    # Rows of weight 0 do nothing, whatever their labels.
    plain.fit(
        x,
        np.where(weight[:, None] > 0, y, 7.0),
        validation_data=VALIDATION,
        sample_weight=weight,
        shuffle=False,
        verbose=0,
    )
    np.testing.assert_array_equal(values_of(made), values_of(plain))


@pytest.mark.once
def test_noise_that_a_batch_shares():
    shared = kr.hyper.Hyperparameter("depth", 3, 0, 10, discrete=True, shared=True)
    made = model(hyperparameters=[RATE, shared])
    drawn = array(made._perturbed(np.ones((6, 3)), made.raw_values, made.scale_logits))
    assert len(np.unique(drawn[:, 0])) == 6 and len(np.unique(drawn[:, 1])) == 1


class Counted(keras.utils.PyDataset):
    """Says how many batches there are, without a length."""

    begun = 0

    def __init__(self, num_batches):
        super().__init__()
        self.count = num_batches

    @property
    def num_batches(self):
        return self.count

    def __getitem__(self, i):
        return (i,)

    def on_epoch_begin(self):
        self.begun += 1


@pytest.mark.once
def test_datasets_without_a_length():
    finite, endless = (batches(Counted(count), lambda n: range(n)[::-1]) for count in (3, None))
    assert len(finite) == 3 and list(finite) == [(2,), (1,), (0,)] == list(finite)
    assert finite.dataset.begun == 2
    assert list(itertools.islice(endless, 4)) == [(0,), (1,), (2,), (3,)]
    with pytest.raises(ValueError, match="`steps_per_epoch`"):
        model().fit(Counted(None), validation_data=VALIDATION)


@pytest.mark.once
def test_what_is_refused():
    (x, y), (x_val, _) = data(), VALIDATION
    made = model()
    for call, words in [
        (lambda: made.fit(x, y, verbose=0), "validation_data"),
        (lambda: made.train_on_batch(x, y), "validation_data"),
        (lambda: made.fit(x, y, validation_data=(x_val,), verbose=0), "needs labels"),
        (lambda: made.fit(iter([(x, y)]), validation_data=VALIDATION), "steps_per_epoch"),
        (lambda: made.fit(x, y[:3], validation_data=VALIDATION), "same number of samples"),
        (lambda: model(hyperparameters=[RATE]), r"\(batch, 1\)"),
        (lambda: model(hyperparameters=[RATE, RATE]), "names of their own"),
        (lambda: model(hyperparameters=[]), "must be a list"),
        (lambda: model(keras.Sequential([keras.layers.Dense(1)])), "inputs"),
        (lambda: model(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])), "inputs"),
        (lambda: model(style="both"), "`style`"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()
    outside = kr.models.SAM(model(compiled=False))
    outside.compile("sgd", "mse")
    with pytest.raises(ValueError, match="outermost"):
        outside.train_on_batch(x, {"label": y, "validation": (VALIDATION,)})


@pytest.mark.rotating
def test_one_training_is_as_good_as_the_best_of_a_grid():
    """Of 200 digits 40 % have a random label. Of rates from 0.05 to 0.85, these two are the best of five."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = (x[order] / 16).astype("float32"), y[order]
    validation, test = (x[200:600], y[200:600]), (x[600:], y[600:])
    wrong = np.random.default_rng(1).random(200) < 0.4
    y[:200][wrong] = np.random.default_rng(2).integers(0, 10, wrong.sum())
    rows = np.tile(np.arange(200), 10)
    layers, loss = keras.layers, keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def losses(made, **options):
        made.compile(keras.optimizers.Adam(0.01), loss)
        made.fit(x[rows], y[rows], 100, 8, shuffle=False, verbose=0, **options)
        return [made.evaluate(*data, len(data[1]), verbose=0) for data in (validation, test)]

    grid = []
    for rate in (0.45, 0.65):
        keras.utils.set_random_seed(0)
        hidden = [layers.GaussianNoise(0.05), layers.Dense(64, "relu"), layers.Dropout(rate)]
        grid.append(losses(keras.Sequential([keras.Input((64,)), *hidden, layers.Dense(10)])))

    keras.utils.set_random_seed(0)
    inputs, h, values = keras.Input((64,)), keras.Input((2,)), keras.Input((2,))
    z = kr.layers.HyperGaussianNoise(1, seed=1)([inputs, values])
    z = kr.layers.SelfTuningDense(64, "relu", hyper_initializer="zeros")([z, h])
    z = kr.layers.HyperDropout(0, seed=2)([z, values])
    outputs = kr.layers.SelfTuningDense(10, hyper_initializer="zeros")([z, h])
    made = kr.models.SelfTuningNetwork(
        keras.Model([inputs, h, values], outputs),
        [
            kr.hyper.Hyperparameter("dropout", 0.05, 0.0, 0.9),
            kr.hyper.Hyperparameter("noise", 0.05, 0.0, 2.0),
        ],
        warmup_epochs=1,
        entropy_weight=0.01,
        style="delta",
        hyper_optimizer=keras.optimizers.RMSprop(0.1),
        scale_optimizer=keras.optimizers.RMSprop(0.1),
        seed=0,
    )
    found = losses(made, validation_data=validation, validation_freq=8)
    assert (np.array(found) < np.min(grid, axis=0)).all()
    assert made.values["noise"] > 0.15 and abs(made.values["dropout"] - 0.05) > 0.02
