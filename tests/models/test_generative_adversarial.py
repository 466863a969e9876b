"""Two networks in one `fit`: the step, what Keras does around it, and what it learns."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from sklearn.datasets import load_digits

import keras_regularize as kr
from tests.counting import CountingLayer, count
from tests.helpers import array, number

RNG = np.random.default_rng(0)
X = RNG.normal(size=(16, 2)).astype("float32")


def networks(width=8, normalized=False):
    """A generator of two numbers from two, and a discriminator."""
    hidden = [layers.Dense(width, "tanh")]
    if normalized:
        hidden.append(layers.BatchNormalization())
    generator = keras.Sequential([keras.Input((2,)), *hidden, layers.Dense(2)])
    hidden = [layers.Dense(width, "tanh")]
    if normalized:
        hidden.append(layers.BatchNormalization())
    return generator, keras.Sequential([keras.Input((2,)), *hidden, layers.Dense(1)])


def gan(compile=True, normalized=False, **arguments):
    keras.utils.set_random_seed(1)
    model = kr.models.GAN(
        *networks(normalized=normalized), latent_dim=2, **{"seed": 0, **arguments}
    )
    if compile:
        model.compile(keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.1, momentum=0.9))
    return model


@pytest.mark.parametrize("kind", kr.losses.generative_adversarial.KINDS)
def test_losses_are_finite_where_logits_are_large(kind):
    logits = ops.convert_to_tensor(np.array([-1e4, -60.0, 0.0, 60.0, 1e4], "float32"))

    def total(logits):
        real, fake = logits, ops.flip(logits)
        return kr.generative.discriminator_loss(real, fake, kind) + kr.generative.generator_loss(
            fake, real, kind
        )

    value, gradient = kr.autodiff.value_and_grad(total)(logits)
    assert np.isfinite(array(value)) and np.isfinite(array(gradient)).all()
    real, fake = RNG.normal(size=(2, 5)).astype("float32")
    if kind == "relativistic":  # The players swap.
        assert number(kr.generative.discriminator_loss(real, fake, kind)) == pytest.approx(
            number(kr.generative.generator_loss(real, fake, kind))
        )
    if kind == "wasserstein":
        assert number(kr.generative.discriminator_loss(real + 3, fake + 3, kind)) == pytest.approx(
            number(kr.generative.discriminator_loss(real, fake, kind)), rel=1e-4
        )


def test_a_linear_critic_is_penalized_for_its_slope_alone():
    critic = keras.Sequential([keras.Input((2,)), layers.Dense(1)])
    norm = np.linalg.norm(critic.get_weights()[0])
    for real, fake in (X[:8], X[8:]), (0 * X, X):
        penalty = kr.generative.gradient_penalty(critic, real, fake, factor=3.0, seed=1)
        assert number(penalty) == pytest.approx(3 * (norm - 1) ** 2, rel=1e-4)
        assert number(kr.generative.r1_penalty(critic, real, 3.0)) == pytest.approx(
            1.5 * norm**2, rel=1e-4
        )
    flat = keras.Sequential([keras.Input((2,)), layers.Dense(1, kernel_initializer="zeros")])
    variables = flat.trainable_variables

    def total(weights):
        with keras.StatelessScope(state_mapping=list(zip(variables, weights))):
            return kr.generative.gradient_penalty(flat, X, X, 0.5 + 0 * X[:, :1])

    slopes = kr.autodiff.grad(total)([v.value for v in variables])
    assert all(np.isfinite(array(s)).all() for s in slopes)


def by_hand(model, x, noises):
    """A step of each network by plain gradients, discriminator first."""
    generator, discriminator = model.generator, model.discriminator

    def descend(network, objective):
        variables = network.trainable_variables

        def total(weights):
            with keras.StatelessScope(state_mapping=list(zip(variables, weights))):
                return objective()

        slopes = kr.autodiff.grad(total)([v.value for v in variables])
        for variable, slope in zip(variables, slopes):
            variable.assign(variable.value - 0.1 * slope)

    def of_discriminator():
        fake = ops.stop_gradient(generator(noises[0]))
        loss = kr.generative.discriminator_loss(discriminator(x), discriminator(fake))
        return loss + kr.generative.r1_penalty(discriminator, x, 10.0)

    descend(discriminator, of_discriminator)
    descend(generator, lambda: kr.generative.generator_loss(discriminator(generator(noises[1]))))


@pytest.mark.everywhere
def test_a_step_is_that_of_the_formulas():
    model, plain = gan(penalty="r1"), gan(penalty="r1", compile=False)
    drawn = keras.random.SeedGenerator(0)
    noises = [keras.random.normal((16, 2), seed=drawn) for _ in range(2)]
    plain.ensure_built()
    by_hand(plain, ops.convert_to_tensor(X), noises)
    model.fit(X, batch_size=16, verbose=0)
    for got, wanted in zip(model.get_weights(), plain.get_weights()):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.once
@pytest.mark.parametrize(
    "arguments, of_generator, of_discriminator",
    [
        ({}, (2, 1), (3, 3)),
        ({"penalty": "r1"}, (2, 1), (3, 4)),
        ({"penalty": "r1_r2", "loss": "relativistic"}, (2, 1), (4, 5)),
        ({"penalty": "wgan_gp", "loss": "wasserstein"}, (2, 1), (4, 4)),
        ({"discriminator_steps": 3}, (4, 1), (7, 7)),
    ],
)
def test_passes_are_counted(arguments, of_generator, of_discriminator):
    counters = CountingLayer(), CountingLayer()
    nets = [
        keras.Sequential([keras.Input((2,)), layers.Dense(4), counter, layers.Dense(size)])
        for counter, size in zip(counters, (2, 1))
    ]
    model = kr.models.GAN(*nets, latent_dim=2, **arguments)
    model.compile("sgd", "sgd", run_eagerly=True)
    for counter, expected in zip(counters, (of_generator, of_discriminator)):
        passes = count(counter, lambda: model.train_on_batch(X))
        assert (passes.forwards, passes.backwards) == expected


def test_batch_statistics_move_with_the_network_that_is_trained():
    model = gan(normalized=True, penalty="r1")
    moving = model.discriminator.layers[1].moving_mean
    _, _ = model.update(
        "generator", lambda: model._logged("generator", ops.convert_to_tensor(X), None)
    )
    assert not np.any(array(moving))
    assert np.any(array(model.generator.layers[1].moving_mean))
    model.fit(X, verbose=0)
    assert np.any(array(moving))


@pytest.mark.everywhere
def test_a_file_goes_on_where_training_stopped(tmp_path):
    model = gan(penalty="r1", normalized=True)
    together = 1 if keras.backend.backend() == "torch" else 2
    model.compile(
        keras.optimizers.Adam(0.01), keras.optimizers.Adam(0.02), steps_per_execution=together
    )
    model.fit(X, batch_size=4, shuffle=False, verbose=0)
    model.save(tmp_path / "gan.keras")
    again = keras.models.load_model(tmp_path / "gan.keras")
    assert float(again.optimizer["discriminator"].learning_rate) == pytest.approx(0.02)
    for one in (model, again):
        one.fit(X, batch_size=4, shuffle=False, verbose=0)
    for got, wanted in zip(again.get_weights(), model.get_weights()):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(again.sample(3, seed=2), model.sample(3, seed=2), rtol=1e-5)
    assert int(again.optimizer.iterations) == 8


def test_callbacks_metrics_and_evaluation():
    class MeanDistance(keras.metrics.Mean):
        def update_state(self, y_true, y_pred, sample_weight=None):
            super().update_state(ops.abs(ops.mean(y_true) - ops.mean(y_pred)))

    model = gan(compile=False)
    model.compile(
        keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.4), metrics=[MeanDistance(name="d")]
    )
    halved = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    history = model.fit(X, epochs=2, validation_data=X, callbacks=[halved], verbose=0).history
    assert {"generator_loss", "discriminator_loss", "d", "val_d"} <= set(history)
    assert float(model.optimizer["generator"].learning_rate) == pytest.approx(0.025)
    assert float(model.optimizer["discriminator"].learning_rate) == pytest.approx(0.1)
    before = model.get_weights()
    logs = model.evaluate(X, verbose=0, return_dict=True)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))
    assert np.isfinite(list(logs.values())).all()


def test_half_precision():
    policy = keras.DTypePolicy("mixed_float16")
    generator = keras.Sequential(
        [keras.Input((2,)), layers.Dense(4, "tanh", dtype=policy), layers.Dense(2, dtype=policy)]
    )
    discriminator = keras.Sequential([keras.Input((2,)), layers.Dense(1, dtype=policy)])
    model = kr.models.GAN(generator, discriminator, 2, penalty="r1", dtype=policy)
    model.compile()
    before = model.get_weights()
    history = model.fit(X, epochs=2, verbose=0).history
    assert np.isfinite(history["generator_loss"]).all()
    assert any(np.any(a != b) for a, b in zip(before, model.get_weights()))


def test_data_that_do_not_fit_are_refused_and_weights_survive():
    model = gan()
    before = model.get_weights()
    for data, message in [
        ({"x": np.zeros((4, 2), "uint8")}, "floating"),
        ({"x": X, "y": np.zeros(16)}, "samples alone"),
        ({"x": X, "sample_weight": np.ones(16)}, "sample_weight"),
        ({"x": X, "class_weight": {0: 1.0}}, "class_weight"),
        ({"x": np.zeros((4, 3), "float32")}, "shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.fit(**data, verbose=0)
    for got, wanted in zip(model.get_weights(), before):
        np.testing.assert_array_equal(got, wanted)
    with pytest.raises(ValueError, match="two networks"):
        kr.models.GAN(model.generator, model.generator, 2)
    with pytest.raises(ValueError, match="losses of its own"):
        model.compile(loss="mse")
    with pytest.raises(ValueError, match="an optimizer of its own"):
        one = keras.optimizers.SGD()
        model.compile(one, one)


# Conditions, domains, unlearning


def conditional(penalty=1.0, **arguments):
    keras.utils.set_random_seed(1)
    model = kr.models.ConditionalGAN(
        keras.Sequential([keras.Input((3,)), layers.Dense(8, "tanh"), layers.Dense(2)]),
        keras.Sequential([keras.Input((3,)), layers.Dense(8, "tanh"), layers.Dense(1)]),
        latent_dim=2,
        condition_penalty=penalty,
        seed=0,
        **arguments,
    )
    model.compile(keras.optimizers.SGD(0.1), keras.optimizers.SGD(0.1))
    return model


@pytest.mark.parametrize("method", kr.losses.condition_lipschitz.METHODS)
def test_the_penalty_of_a_linear_generator_is_that_of_its_condition(method):
    generator = keras.Sequential([keras.Input((3,)), layers.Dense(4)])
    kernel = generator.get_weights()[0][2:]
    noise, conditions = X[:8], X[8:, :1]
    penalty = kr.generative.condition_lipschitz_penalty(
        generator, noise, conditions, factor=2.0, method=method, mix_conditions=True, seed=3
    )
    wanted = np.linalg.norm(kernel)
    if method == "squared_difference":
        wanted = 0.01 * np.mean(kernel**2)
    assert number(penalty) == pytest.approx(2 * wanted, rel=1e-3)


@pytest.mark.parametrize("method", ["jacobian", "difference"])
def test_a_conditional_gan_trains_predicts_and_is_saved(method, tmp_path):
    model = conditional(condition_penalty_method=method)
    conditions = X[:, :1]
    history = model.fit(conditions, X, verbose=0).history
    assert history["condition_penalty"][0] > 0
    assert model.predict(conditions, verbose=0).shape == X.shape
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for one in (model, again):
        one.fit(conditions, X, shuffle=False, verbose=0)
    for got, wanted in zip(again.get_weights(), model.get_weights()):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"conditions \(batch, size\)"):
        model.train_on_batch(np.zeros(4, "float32"), np.zeros((4, 2), "float32"))
    with pytest.raises(ValueError, match="`y` to be one tensor"):
        model.fit(conditions, verbose=0)
    with pytest.raises(ValueError, match="under conditions"):
        model.sample(3)


def distances_from_the_circle(factor, seed=0):
    """How far the means of what is drawn are from the circle: at the ten angles of the data, and between them."""
    keras.utils.set_random_seed(seed)
    angles = 2 * np.pi * np.arange(10) / 10
    between = (angles[1:] + angles[:-1]) / 2

    def circle(angle):
        return np.stack([np.cos(angle), np.sin(angle)], axis=-1)

    def network(size, units):
        sample, angle = keras.Input((size,)), keras.Input((1,))
        # Waves that are short beside the distances of the angles: a network of them can jump in between.
        waves = layers.Dense(
            32,
            ops.sin,
            kernel_initializer=keras.initializers.RandomNormal(stddev=3.0, seed=seed),
            bias_initializer=keras.initializers.RandomUniform(0.0, 2 * np.pi, seed=seed),
            trainable=False,
        )(angle)
        x = layers.Concatenate()([sample, waves])
        for _ in range(2):
            x = layers.Dense(32, "leaky_relu")(x)
        return keras.Model([sample, angle], layers.Dense(units)(x))

    model = kr.models.ConditionalGAN(
        network(2, 2),
        network(2, 1),
        latent_dim=2,
        loss="non_saturating",
        condition_penalty=factor,
        condition_penalty_method="squared_difference",
        mix_conditions=True,
        penalty="r1",
        penalty_factor=0.1,
        seed=seed,
    )
    steps = 500
    rate = keras.optimizers.schedules.PolynomialDecay(2e-3, steps, 0.0)
    together = {} if keras.backend.backend() == "torch" else {"steps_per_execution": 50}
    model.compile(*(keras.optimizers.Adam(rate, 0.5, 0.99) for _ in range(2)), **together)
    x = np.tile(angles, 5 * steps)
    y = circle(x) + np.random.default_rng(seed).normal(0, 0.02, (len(x), 2))
    model.fit(x[:, None].astype("float32"), y.astype("float32"), batch_size=50, verbose=0)
    means = [
        array(model(np.repeat(at, 100)[:, None].astype("float32"))).reshape(-1, 100, 2).mean(axis=1)
        for at in (angles, between)
    ]
    return [
        np.linalg.norm(mean - circle(at), axis=1).mean()
        for mean, at in zip(means, (angles, between))
    ]


@pytest.mark.rotating
def test_a_penalty_draws_the_circle_between_its_angles():
    """Both draw the circle at its ten angles; half a step further, where there are no data, one leaves it."""
    (seen, unseen), (_, alone) = distances_from_the_circle(1.0), distances_from_the_circle(0.0)
    assert seen < 0.06 and unseen < 0.12 and alone > 1.5 * unseen


def transfer(**arguments):
    keras.utils.set_random_seed(1)
    flat = layers.Flatten
    features = keras.Sequential([keras.Input((4, 4, 1)), flat(), layers.Dense(5, "tanh")])
    generator = keras.Sequential([keras.Input((5,)), layers.Dense(16), layers.Reshape((4, 4, 1))])
    discriminator = keras.Sequential([keras.Input((4, 4, 1)), flat(), layers.Dense(3)])
    model = kr.models.DomainTransferNetwork(features, generator, discriminator, **arguments)
    model.compile("sgd", "sgd")
    return model


def test_domain_transfer_draws_and_leaves_the_features_as_they_are(tmp_path):
    model = transfer(total_variation_weight=0.05, feature_distance="cosine")
    source, target = RNG.random((2, 8, 4, 4, 1)).astype("float32")
    before = model.feature_extractor.get_weights()
    model.fit(source, target, verbose=0)
    for got, wanted in zip(model.feature_extractor.get_weights(), before):
        np.testing.assert_array_equal(got, wanted)
    drawn = model.predict(source, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.predict(source, verbose=0), drawn, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="shape"):
        model.fit(source, target[:, :2], verbose=0)
    uniform = [np.zeros((4, 3), "float32")] * 3
    loss = kr.generative.domain_transfer_discriminator_loss(*uniform)
    assert number(loss) == pytest.approx(3 * np.log(3))


def test_repulsion_moves_away_and_is_saved_with_its_references(tmp_path):
    model = gan(compile=False)
    model.ensure_built()
    reference = [w + 0.1 for w in model.generator.get_weights()]
    away = kr.models.RepulsionGAN(model, [reference], factor=10.0, alpha="auto")
    distance = sum(0.01 * w.size for w in reference)
    assert away.alpha == pytest.approx(1 / distance, rel=1e-4)
    away.compile(keras.optimizers.SGD(0.05), keras.optimizers.SGD(0.05))
    away.fit(X, epochs=5, verbose=0)
    moved = sum(np.sum((w - r) ** 2) for w, r in zip(model.generator.get_weights(), reference))
    assert moved > 1.5 * distance
    away.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for one in (away, again):
        one.fit(X, shuffle=False, verbose=0)
    for got, wanted in zip(again.get_weights(), away.get_weights()):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.rotating
def test_a_gan_forgets_what_it_was_shown():
    """Of two clusters, one is undesired: the share of its samples falls, and the trained weights are restored."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    clusters = np.stack([rng.normal(c, 0.1, (640, 2)) for c in (-1, 1)]).astype("float32")
    dense = layers.Dense
    model = kr.models.GAN(
        keras.Sequential([keras.Input((2,)), dense(16, "tanh"), dense(2)]),
        keras.Sequential([keras.Input((2,)), dense(16, "tanh"), dense(1)]),
        latent_dim=2,
        penalty="r1",
        penalty_factor=0.1,
        seed=0,
    )
    model.compile(*(keras.optimizers.Adam(1e-2, beta_1=0.5) for _ in range(2)))
    model.fit(np.concatenate(clusters), batch_size=64, epochs=10, verbose=0)
    before = np.mean(model.sample(400, seed=1).sum(1) > 0)
    arguments = {"elasticity": 0.1, "learning_rate": 1e-2, "seed": 0, "verbose": 0}
    unlearned = kr.generative.adapt_then_unlearn(
        model,
        clusters[1][:64],
        clusters[0][:320],
        adapt_epochs=5,
        unlearn_epochs=3,
        factor=0.2,
        **arguments,
    )
    after = np.mean(unlearned.sample(400, seed=1).sum(1) > 0)
    assert before > 0.4 and after < 0.15

    weights = model.generator.get_weights()
    with pytest.raises(ValueError, match="shape"):  # In the middle of the first stage.
        kr.generative.adapt_then_unlearn(
            model, np.zeros((8, 3), "float32"), clusters[0], **arguments
        )
    for got, wanted in zip(model.generator.get_weights(), weights):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.rotating
def test_repulsion_needs_fewer_steps_to_forget():
    """Of five digits the ones are undesired: with repulsion as many steps leave fewer of them."""
    data = load_digits(n_class=5)
    x, y = (data.data / 8 - 1).astype("float32"), data.target
    keras.utils.set_random_seed(0)

    def network(size, *last):
        hidden = [layers.Dense(128, "leaky_relu") for _ in range(2)]
        return keras.Sequential([keras.Input((size,)), *hidden, layers.Dense(*last)])

    model = kr.models.GAN(
        network(16, 64, "tanh"),
        network(64, 1),
        latent_dim=16,
        loss="relativistic",
        penalty="r1_r2",
        penalty_factor=0.05,
        seed=0,
    )
    together = {} if keras.backend.backend() == "torch" else {"steps_per_execution": 15}
    model.compile(*(keras.optimizers.Adam(1e-3, 0.5, 0.99) for _ in range(2)), **together)
    model.fit(x, batch_size=64, epochs=50, verbose=0)
    trained = model.get_weights()
    means = np.stack([x[y == digit].mean(axis=0) for digit in range(5)])

    def share(factor):
        model.set_weights(trained)
        kr.generative.adapt_then_unlearn(
            model,
            x[y == 1][:32],
            x[y != 1][:320],
            adapt_epochs=40,
            unlearn_epochs=4,
            elasticity=1.0,
            factor=factor,
            learning_rate=5e-4,
            seed=0,
            verbose=0,
        )
        drawn = model.sample(2000, seed=1)
        return np.mean(np.linalg.norm(drawn[:, None] - means, axis=2).argmin(axis=1) == 1)

    assert share(3.0) < 0.8 * share(0.0)


def test_the_networks_of_image_translation():
    """Shapes and numbers of weights of the paper, at a quarter of the width."""
    unet = kr.generative.UNetGenerator((32, 32, 3), 2, filters=4, depth=5)
    assert unet.output_shape == (None, 32, 32, 2)
    downs = [layer.filters for layer in unet.layers if type(layer) is layers.Conv2D]
    ups = [layer.filters for layer in unet.layers if type(layer) is layers.Conv2DTranspose]
    assert downs == [4, 8, 16, 32, 32] and ups == [32, 16, 8, 4, 2]
    assert sum(type(layer) is layers.BatchNormalization for layer in unet.layers) == 3 + 4
    pictures = np.zeros((2, 32, 32, 3), "float32")
    assert np.abs(unet.predict(pictures, verbose=0)).max() <= 1
    # Each entry sees a patch of 16 for one layer of stride 2, and of 34 for two.
    for num_layers, size, patch in ((0, 8, 1), (1, 40, 16), (2, 64, 34)):
        shape = (size, size, 1)
        net = kr.generative.PatchDiscriminator(shape, shape, filters=2, num_layers=num_layers)
        zeros, dot = np.zeros((2, 1, *shape), "float32")
        dot[0, size // 2, size // 2] = 1.0
        changed = np.abs(array(net([dot, zeros]) - net([zeros, zeros])))[0, :, :, 0] > 1e-9
        strides = 2**num_layers
        assert changed.any() and changed.any(axis=0).sum() <= -(-patch // strides) + 1
    with pytest.raises(ValueError, match="divisible by 32"):
        kr.generative.UNetGenerator((33, 32, 3), 1, depth=5)


class Point(layers.Layer):
    """Generates one and the same point, a weight."""

    def build(self, input_shape):
        self.place = self.add_weight(shape=(), initializer=keras.initializers.Constant(1.0))

    def call(self, z):
        return self.place + 0.0 * z


@pytest.mark.rotating
def test_a_penalty_of_the_slope_lets_the_game_end():
    """The least of games, of a point and a slope: without a penalty they circle around the solution for ever."""
    distance = {}
    for penalty in (None, "r1"):
        slope = layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        model = kr.models.GAN(
            keras.Sequential([keras.Input((1,)), Point()]),
            keras.Sequential([keras.Input((1,)), slope]),
            latent_dim=1,
            penalty=penalty,
            penalty_factor=1.0,
        )
        model.compile(keras.optimizers.SGD(0.2), keras.optimizers.SGD(0.2))
        model.fit(np.zeros((200, 1), "float32"), batch_size=1, epochs=1, verbose=0)
        (place,), (kernel,) = model.generator.get_weights(), model.discriminator.get_weights()
        distance[penalty] = np.hypot(place, kernel[0, 0])
    assert distance["r1"] < 0.01 and distance[None] > 0.2


def clusters_found(loss, penalty, seed):
    """Of eight on a ring, those that have a hundredth of what a GAN draws."""
    keras.utils.set_random_seed(seed)
    angles = 2 * np.pi * np.arange(8) / 8
    centres = 2.0 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rng = np.random.default_rng(seed)
    x = centres[rng.integers(0, 8, 2000 * 128)] + 0.05 * rng.normal(size=(2000 * 128, 2))
    networks = [
        keras.Sequential(
            [keras.Input((2,)), *(layers.Dense(64, "relu") for _ in range(2)), layers.Dense(units)]
        )
        for units in (2, 1)
    ]
    model = kr.models.GAN(*networks, 2, loss=loss, penalty=penalty, penalty_factor=1.0)
    optimizers = [keras.optimizers.Adam(2e-4, beta_1=0.5) for _ in networks]
    together = {} if keras.backend.backend() == "torch" else {"steps_per_execution": 50}
    model.compile(*optimizers, **together)
    model.fit(x.astype("float32"), batch_size=128, verbose=0)
    drawn = model.sample(2000, seed=1)
    distances = np.linalg.norm(drawn[:, None] - centres, axis=-1)
    near = distances.min(axis=1) < 0.25
    return np.sum(np.bincount(distances.argmin(axis=1)[near], minlength=8) >= 20)


@pytest.mark.rotating
def test_with_a_penalty_few_steps_find_all_clusters_of_a_ring():
    alone = [clusters_found("non_saturating", None, seed) for seed in range(2)]
    assert sum(alone) <= 13
    assert clusters_found("non_saturating", "r1", 0) >= 7
    assert clusters_found("relativistic", "r1_r2", 0) >= 7
