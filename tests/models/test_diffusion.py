"""Diffusion models: one step against the formula, samplers against a density that is known, and what users do."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_regularize as kr
from keras_regularize.models import DenoisingDiffusion
from keras_regularize.testing._common import save_and_load
from tests.helpers import array, normal, number

X = normal(8, 3)
STEPS = 20
MEAN, STDDEV = np.array([1.0, -0.5]), 0.3
FORMS = {
    "x0": {},
    "epsilon": {"prediction": "epsilon", "schedule": "linear"},
    "v": {"prediction": "v", "weighting": "edm", "sigma_data": 0.4},
    "edm": {"schedule": "edm", "weighting": "min_snr", "sigma_data": 0.4},
}


def network(features=3, steps=STEPS, units=8, classes=None, depth=1):
    """Of data and time steps, and of a class if there are some."""
    keras.utils.set_random_seed(0)
    inputs = [keras.Input((features,)), keras.Input((), dtype="int32")]
    parts = [inputs[0], layers.Embedding(steps, 16)(inputs[1])]
    if classes:
        inputs.append(keras.Input((), dtype="int32"))
        parts.append(layers.Embedding(classes, 4)(inputs[2]))
    hidden = layers.Concatenate()(parts)
    for _ in range(depth):
        hidden = layers.Dense(units, "silu")(hidden)
    return keras.Model(inputs, layers.Dense(features)(hidden))


def continuous_network(features=3, units=8):
    keras.utils.set_random_seed(0)
    inputs = [keras.Input((features,)), keras.Input((1,))]
    hidden = layers.Dense(units, "silu")(layers.Concatenate()(inputs))
    return keras.Model(inputs, layers.Dense(features)(hidden))


def model_of(form, **arguments):
    net = continuous_network() if form == "edm" else network()
    return DenoisingDiffusion(
        net, **{"num_timesteps": STEPS, "seed": 3, **FORMS[form], **arguments}
    )


def levels(schedule, steps=STEPS):
    """Factors of data and noise at the time steps, in loops."""
    betas = []
    for i in range(steps):
        if schedule == "linear":
            betas.append(min((0.1 + i * 19.9 / (steps - 1)) / steps, 0.999))
        else:
            at = [np.cos((s / steps + 0.008) / 1.008 * np.pi / 2) ** 2 for s in (i, i + 1)]
            betas.append(min(1 - at[1] / at[0], 0.999))
    signal = np.array([np.prod(1 - np.array(betas[: i + 1])) for i in range(steps)])
    return np.sqrt(signal), np.sqrt(1 - signal)


def expected(form, outputs, sample_weight):
    """The loss of a step from what was drawn in it: the squared error of the estimate of the data, weighed."""
    times, prediction = (array(outputs[key]).astype("float64") for key in ("time", "prediction"))
    losses = []
    for i, (x0, f, seen) in enumerate(zip(X, prediction, array(outputs["noisy"]))):
        if form == "edm":
            sigma, d = times[i], 0.4
            length = np.sqrt(sigma**2 + d**2)
            x_t = seen * length
            estimate = d**2 / length**2 * x_t + sigma * d / length * f
            snr, weight = 1 / sigma**2, min(1 / sigma**2, 5.0)
        else:
            signal, noise = (t[int(times[i])] for t in levels(FORMS[form].get("schedule")))
            x_t, snr = seen, signal**2 / noise**2
            estimate = {
                "x0": f,
                "epsilon": (x_t - noise * f) / signal,
                "v": signal * x_t - noise * f,
            }[form]
            weight = 1 / 0.16 + snr if form == "v" else min(snr, 5.0)
        losses.append(sample_weight[i] * weight * np.mean((estimate - x0) ** 2))
    return np.mean(losses)


@pytest.mark.parametrize("form", FORMS)
def test_the_loss_is_the_weighed_error_of_the_estimate_of_the_data(form):
    model = model_of(form)
    model.compile("sgd", run_eagerly=True)
    outputs = model(X)
    for weight in (np.ones(8), np.linspace(0.0, 2.0, 8)):
        given = weight.astype("float32")[:, None]
        loss = model.compute_loss(None, None, outputs, given)
        assert number(loss) == pytest.approx(expected(form, outputs, weight), rel=2e-3)


class Exact(layers.Layer):
    """What the best network gives out for normal data."""

    def __init__(self, model_form):
        super().__init__()
        self.form = model_form

    def call(self, inputs):
        x, t = inputs
        if self.form == "edm":
            sigma, d = ops.exp(4.0 * t), 0.4
            scale = 1.0 / ops.sqrt(sigma**2 + d**2)
            x = x / scale
            return (self.estimate(x, 1.0, sigma) - d**2 * scale**2 * x) / (sigma * d * scale)
        tables = levels(FORMS[self.form].get("schedule"), 100)
        signal, noise = (
            ops.take(ops.convert_to_tensor(a.astype("float32")), t)[:, None] for a in tables
        )
        x0 = self.estimate(x, signal, noise)
        epsilon = (x - signal * x0) / noise
        return {"x0": x0, "epsilon": epsilon, "v": signal * epsilon - noise * x0}[self.form]

    def estimate(self, x, signal, noise):
        mean = ops.convert_to_tensor(MEAN.astype("float32"))
        gain = signal * STDDEV**2 / (signal**2 * STDDEV**2 + noise**2)
        return mean + gain * (x - signal * mean)


@pytest.mark.parametrize(
    "form, sampler, steps",
    [
        ("x0", "ddpm", None),
        ("epsilon", "ddpm", None),
        ("v", "ddim", 30),
        ("x0", "ddim", None),
        ("edm", "heun", None),
        ("edm", "ddim", 60),
        ("edm", "ddpm", 60),
    ],
)
def test_samplers_with_the_best_network_draw_from_the_density(form, sampler, steps):
    t = keras.Input((1,)) if form == "edm" else keras.Input((), dtype="int32")
    x = keras.Input((2,))
    exact = keras.Model([x, t], Exact(form)([x, t]))
    model = DenoisingDiffusion(exact, 100, **FORMS[form])
    drawn = model.sample(2000, sampler, steps, seed=0)
    assert drawn.shape == (2000, 2) and drawn.dtype == "float32"
    np.testing.assert_allclose(drawn.mean(axis=0), MEAN, atol=0.05)
    np.testing.assert_allclose(drawn.std(axis=0), STDDEV, rtol=0.1)


def test_a_pseudo_huber_loss_depends_on_the_time_step():
    model = model_of("x0", delta_schedule="exponential", weighting="uniform")
    model.compile("sgd", kr.losses.PseudoHuber(0.1, "l2"), run_eagerly=True)
    outputs = model(X)
    delta = 0.1 ** (array(outputs["time"]) / STEPS)[:, None]
    error = X - array(outputs["prediction"])
    values = 2 * delta * (np.sqrt(error**2 + delta**2) - delta)
    loss = number(model.compute_loss(None, None, outputs, np.arange(8, dtype="float32")))
    assert loss == pytest.approx(np.mean(np.arange(8) * values.mean(axis=1)), rel=1e-4)
    with pytest.raises(ValueError, match="`delta_schedule` is that of `kr.losses.PseudoHuber`"):
        model.compile("sgd", "mse")


@pytest.mark.everywhere
@pytest.mark.parametrize("form", ["v", "edm"])
def test_fit_evaluate_sample_save_and_resume(form, tmp_path):
    model = model_of(form)
    net = model.network
    model.compile(keras.optimizers.Adam(0.01, use_ema=True), metrics=["mae"])
    history = model.fit(
        X, batch_size=4, epochs=2, verbose=0, validation_data=(X, None), shuffle=False
    ).history
    assert {"loss", "mae", "val_loss", "val_mae"} <= set(history)
    assert np.isfinite([*history.values()]).all()
    before = model.sample(5, steps=4, seed=1)
    assert before.shape == (5, 3) and np.isfinite(before).all()
    np.testing.assert_array_equal(before, model.sample(5, steps=4, seed=1))
    assert np.abs(before - model.sample(5, steps=4)).max() > 0
    assert model.sample(0, steps=2).shape == (0, 3)
    parts = model.sample(5, "ddim", steps=4, seed=1, batch_size=2, clip=(-0.5, 0.5))
    assert parts.shape == (5, 3) and np.abs(parts).max() <= 0.5
    times = np.array([1, 2]) if form == "v" else np.array([-0.5, 0.5], "float32")
    expected = array(net([X[:2], times]))
    np.testing.assert_allclose(model.predict([X[:2], times], verbose=0), expected, rtol=1e-5)

    loaded = save_and_load(model)
    np.testing.assert_allclose(loaded.sample(5, steps=4, seed=1), before, rtol=1e-5, atol=1e-6)
    one, other = (float(m.train_on_batch(X, return_dict=True)["loss"]) for m in (model, loaded))
    assert one == pytest.approx(other, rel=1e-5)
    after = model.sample(5, steps=4, seed=1)
    assert np.abs(after - before).max() > 1e-6  # No weights are baked into what was compiled.
    np.testing.assert_allclose(loaded.sample(5, steps=4, seed=1), after, rtol=1e-4, atol=1e-5)


def datasets():
    """The same batches of data and classes in the forms that users have."""
    y = (np.arange(8) % 2).astype("int32")

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            rows = slice(4 * index, 4 * index + 4)
            return ((X[rows], y[rows]),)

    yield [X, y]
    yield Batches()
    import tensorflow as tf

    images = tf.data.Dataset.from_tensor_slices((X, y))
    yield images.map(lambda x, labels: ((x, labels),)).batch(4)


@pytest.mark.everywhere
def test_networks_with_conditions():
    model = DenoisingDiffusion(network(classes=2), STEPS, seed=0)
    together = 1 if keras.backend.backend() == "torch" else 2
    model.compile(keras.optimizers.Adam(0.01), steps_per_execution=together)
    for data in datasets():
        size = {"batch_size": 4} if isinstance(data, list) else {}
        history = model.fit(data, verbose=0, shuffle=False, **size).history
        assert np.isfinite(history["loss"]).all()
    drawn = [
        model.sample(4, "ddim", 5, conditions=np.full(4, c, "int32"), seed=0) for c in (0, 1, 0)
    ]
    np.testing.assert_array_equal(drawn[0], drawn[2])
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-4
    with pytest.raises(ValueError, match="`conditions` must be an array of 4 rows"):
        model.sample(4, conditions=np.zeros(3))


def test_other_wrappers_penalties_and_half_precision():
    net = network()
    net.layers[-1].kernel.regularizer = keras.regularizers.L2(0.1)
    found = []
    for wrap in (lambda model: model, kr.models.RegularizedModel):
        model = wrap(DenoisingDiffusion(net, STEPS, seed=0))
        model.compile(
            keras.optimizers.SGD(0.0), run_eagerly=True
        )  # Compiled, TensorFlow draws others.
        found.append(float(model.train_on_batch(X, return_dict=True)["loss"]))
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    net.layers[-1].kernel.regularizer = None
    plain = DenoisingDiffusion(net, STEPS, seed=0)
    plain.compile(keras.optimizers.SGD(0.0), run_eagerly=True)
    penalty = 0.1 * np.sum(array(net.layers[-1].kernel) ** 2)
    loss = float(plain.train_on_batch(X, return_dict=True)["loss"])
    assert found[0] - loss == pytest.approx(penalty, rel=1e-3)
    sam = kr.models.SAM(plain)
    sam.compile("sgd")
    assert np.isfinite(sam.fit(X, verbose=0).history["loss"]).all()
    for policy in ("mixed_float16", "mixed_bfloat16"):
        keras.config.set_dtype_policy(policy)
        model = model_of("v")
        model.compile("sgd")
        assert np.isfinite(model.fit(X, verbose=0).history["loss"]).all()
        assert array(model(X)["target"]).dtype == "float32"
        assert np.isfinite(model.sample(2, steps=3)).all()


def test_images_of_a_network_that_does_not_tell_their_shape():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.convolution = layers.Conv2D(1, 3, padding="same")

        def call(self, inputs):
            x, t = inputs
            return self.convolution(x) + 0.01 * ops.cast(t, x.dtype)[:, None, None, None]

    model = DenoisingDiffusion(Subclassed(), STEPS, prediction="epsilon", schedule="linear")
    model.compile("adam")
    model.fit(normal(4, 6, 5, 1), verbose=0)
    assert model.sample(2, steps=3, shape=(6, 5, 1)).shape == (2, 6, 5, 1)
    with pytest.raises(ValueError, match="`sample` needs `shape`"):
        model.sample(2)


@pytest.mark.everywhere
def test_a_batch_without_rows_moves_nothing():
    model = model_of("x0")
    model.compile("sgd", "mse")
    before = [array(v) for v in model.trainable_variables]
    assert np.isfinite(model.train_on_batch(X[:0]))
    for variable, value in zip(model.trainable_variables, before):
        np.testing.assert_array_equal(array(variable), value)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: DenoisingDiffusion(layers.Dense(2)), "`network` must be a `keras.Model`"),
        (lambda: DenoisingDiffusion(network(), 0), "`num_timesteps` must be an integer"),
        (lambda: model_of("x0", schedule="sigmoid"), "`schedule` must be one of"),
        (lambda: model_of("x0", prediction="score"), "`prediction` must be one of"),
        (lambda: model_of("x0", weighting="snr"), "`weighting` must be one of"),
        (lambda: model_of("x0", delta_schedule="constant"), "`delta_schedule` must be one of"),
        (lambda: model_of("edm", prediction="v"), "a prediction of its own"),
        (lambda: model_of("edm", delta_schedule="snr"), "a prediction of its own"),
        (lambda: model_of("x0")((X * 50).astype("int32")), "scale images to"),
        (lambda: model_of("x0")(X[:, 0]), "Expected floating data"),
        (lambda: model_of("x0")({"x": X}), "Received: a dictionary"),
        (lambda: model_of("x0").sample(2, "heun"), 'needs `schedule="edm"`'),
        (lambda: model_of("x0").sample(2, "euler"), "`sampler` must be one of"),
        (lambda: model_of("x0").sample(2, steps=21), "`steps` must be an integer"),
        (lambda: model_of("x0").sample(-1), "`num_samples` must be an integer"),
        (lambda: model_of("x0").sample(2, clip=(1, 0)), "`clip` must be two ascending"),
    ],
)
def test_what_it_cannot_do_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_labels_weights_per_position_and_other_outputs_are_refused():
    model = model_of("x0")
    model.compile("sgd", run_eagerly=True)
    with pytest.raises(ValueError, match="trained without labels"):
        model.fit(X, np.zeros(8), verbose=0)
    with pytest.raises(ValueError, match="one weight per sample"):
        model.train_on_batch(X, None, np.ones((8, 3)))
    x, t = keras.Input((3,)), keras.Input((), dtype="int32")
    wrong = keras.Model([x, t], layers.Dense(1)(x))
    with pytest.raises(ValueError, match="must give out the shape of the data"):
        DenoisingDiffusion(wrong, STEPS)(X)


def physics_informed():
    return kr.models.PhysicsInformedDiffusion(
        network(), lambda x: x - 1.0, STEPS, 0.1, x0_estimation="sample", seed=3
    )


@pytest.mark.everywhere
@pytest.mark.parametrize("form", ["edm", "delta", "physics"])
def test_weights_networks_and_data_in_double_precision(form):
    def compiled():
        model = physics_informed() if form == "physics" else None
        if form == "delta":
            model = model_of("epsilon", delta_schedule="exponential")
        model = model or model_of(form)
        loss = kr.losses.PseudoHuber() if form == "delta" else "mse"
        model.compile("sgd", loss, run_eagerly=True)
        return model

    weights = np.arange(8) / 4  # As which NumPy makes them.
    single = compiled().train_on_batch(X, None, weights.astype("float32"))
    assert compiled().train_on_batch(X, None, weights) == pytest.approx(single, rel=1e-6)
    if keras.backend.backend() == "jax":  # It has double precision only if asked to.
        return
    keras.config.set_dtype_policy("float64")
    model = compiled()
    outputs = model(X.astype("float64"))
    for name in ("prediction", "target", "noisy"):
        assert keras.backend.standardize_dtype(outputs[name].dtype) == "float64"
    assert np.isfinite(model.train_on_batch(X.astype("float64"), None, weights))


@pytest.mark.rotating
def test_a_pseudo_huber_loss_draws_fewer_outliers():
    """Two clusters on a line, and five in a hundred points far out."""
    rng = np.random.default_rng(0)
    x = rng.choice([-1.0, 1.0], (2048, 1)) + 0.1 * rng.normal(size=(2048, 1))
    x[rng.random(2048) < 0.05] = 6.0
    share = {}
    for name, loss, schedule in (
        ("mse", "mse", None),
        ("huber", kr.losses.PseudoHuber(0.1, "l2"), "exponential"),
    ):
        net = network(1, 50, 64, depth=2)
        model = DenoisingDiffusion(net, 50, delta_schedule=schedule, seed=0)
        model.compile(keras.optimizers.Adam(0.005, use_ema=True, ema_momentum=0.98), loss)
        model.fit(x.astype("float32"), epochs=60, batch_size=128, verbose=0)
        share[name] = np.mean(model.sample(1000, seed=0) > 2.5)
    assert share["huber"] < 0.25 * share["mse"] and share["mse"] > 0.03, share


@pytest.mark.parametrize("wrap", [lambda m: m, kr.models.SAM], ids=["itself", "wrapped"])
def test_weights_of_samples_without_labels_come_in_batches(wrap):
    model, none = wrap(model_of("x0")), np.zeros(8, "float32")
    model.compile(keras.optimizers.SGD(0.1))
    for run in (
        lambda: model.fit(X, sample_weight=none),
        lambda: model.fit(X, validation_data=(X, None, none)),
        lambda: model.evaluate(X, sample_weight=none),
    ):
        with pytest.raises(ValueError, match="takes no `sample_weight` of arrays without labels"):
            run()
    batches = ((X, None, none) for _ in range(1))
    logs = model.fit(batches, steps_per_epoch=1, shuffle=False, verbose=0).history
    assert logs["loss"] == [0.0]
