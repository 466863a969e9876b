"""What steps of two networks cost, beside the same passes by hand for the backend, and those of a captioner."""

import functools

import keras
import numpy as np
from keras import layers, ops
from rich.console import Group

import keras_regularize as kr
from benchmarks.timing import race, ratio_table
from keras_regularize.autodiff import backend

BATCH, SIZE, WIDTH, LATENT = 128, 784, 256, 64
#: Enough for what `fit` does once to be little.
STEPS = 40
BY_HAND, AROUND = "by hand", "by hand, and an idle fit"


def networks():
    keras.utils.set_random_seed(0)
    hidden = [layers.Dense(WIDTH, "relu"), layers.Dense(WIDTH, "relu")]
    generator = keras.Sequential([keras.Input((LATENT,)), *hidden, layers.Dense(SIZE)])
    hidden = [layers.Dense(WIDTH, "relu"), layers.Dense(WIDTH, "relu")]
    return generator, keras.Sequential([keras.Input((SIZE,)), *hidden, layers.Dense(1)])


def optimizers():
    return keras.optimizers.Adam(1e-4), keras.optimizers.Adam(1e-4)


def in_training(network):
    """Its passes, in the mode that a step written by hand has to name."""
    return functools.partial(network, training=True)


def losses(generator, discriminator, penalty):
    """The two objectives, of real samples and noise."""
    generate, judge = in_training(generator), in_training(discriminator)

    def of_discriminator(x, z):
        fake = ops.stop_gradient(generate(z))
        loss = ops.mean(ops.softplus(-judge(x))) + ops.mean(ops.softplus(judge(fake)))
        return loss + (kr.generative.r1_penalty(judge, x) if penalty else 0.0)

    def of_generator(x, z):
        return ops.mean(ops.softplus(-judge(generate(z))))

    return of_discriminator, of_generator


def by_hand_on_torch(generator, discriminator, penalty):
    import torch

    of_generator = losses(generator, discriminator, penalty)[1]
    generate, judge = in_training(generator), in_training(discriminator)
    players = list(zip((discriminator, generator), reversed(optimizers())))
    for network, optimizer in players:
        optimizer.build(network.trainable_variables)

    def of_discriminator(x, z):
        with torch.no_grad():
            fake = generate(z)
        x = x.detach().requires_grad_(penalty)
        real = judge(x)
        loss = torch.nn.functional.softplus(-real).mean()
        loss = loss + torch.nn.functional.softplus(judge(fake)).mean()
        if penalty:
            (slope,) = torch.autograd.grad(real.sum(), x, create_graph=True)
            loss = loss + 5.0 * slope.square().sum(1).mean()
        return loss

    def step(x):
        for (network, optimizer), objective in zip(players, (of_discriminator, of_generator)):
            variables = network.trainable_variables
            loss = objective(x, torch.randn(len(x), LATENT))
            gradients = torch.autograd.grad(loss, [v.value for v in variables])
            with torch.no_grad():
                optimizer.apply(list(gradients), variables)

    return step


def by_hand_on_tensorflow(generator, discriminator, penalty):
    import tensorflow as tf

    objectives = losses(generator, discriminator, penalty)
    players = list(zip((discriminator, generator), reversed(optimizers())))
    for network, optimizer in players:
        optimizer.build(network.trainable_variables)

    @tf.function(jit_compile=True)
    def step(x):
        for (network, optimizer), objective in zip(players, objectives):
            variables = network.trainable_variables
            with tf.GradientTape() as tape:
                loss = objective(x, tf.random.normal((BATCH, LATENT)))
            slopes = tape.gradient(loss, [v.value for v in variables])
            optimizer.apply(slopes, variables)

    return step


def by_hand_on_jax(generator, discriminator, penalty):
    import jax

    objectives = losses(generator, discriminator, penalty)
    nets = (discriminator, generator)
    steppers = list(reversed(optimizers()))
    for network, optimizer in zip(nets, steppers):
        optimizer.build(network.trainable_variables)

    def at(weights, i, x, z):
        pairs = [p for net, w in zip(nets, weights) for p in zip(net.trainable_variables, w)]
        with keras.StatelessScope(state_mapping=pairs):
            return objectives[i](x, z)

    @jax.jit
    def run(weights, slots, key, x):
        for i in range(2):
            key, noise = jax.random.split(key)
            z = jax.random.normal(noise, (BATCH, LATENT))

            def loss(own, i=i, weights=weights, z=z):
                return at([own if j == i else w for j, w in enumerate(weights)], i, x, z)

            slopes = jax.grad(loss)(weights[i])
            new, kept = steppers[i].stateless_apply(slots[i], slopes, weights[i])
            weights = [new if j == i else w for j, w in enumerate(weights)]
            slots = [kept if j == i else s for j, s in enumerate(slots)]
        return weights, slots, key

    state = [
        [[v.value for v in net.trainable_variables] for net in nets],
        [[v.value for v in optimizer.variables] for optimizer in steppers],
        jax.random.key(0),
    ]

    def step(x):
        state[:] = run(*state, x)
        jax.block_until_ready(state[0])

    return step


BY_HAND_ON = {
    "torch": by_hand_on_torch,
    "tensorflow": by_hand_on_tensorflow,
    "jax": by_hand_on_jax,
}


class Idle(keras.Model):
    """A step that does nothing but log two numbers: what Keras costs around one of a GAN."""

    def __init__(self):
        super().__init__()
        self.built = True
        self.logged = [keras.metrics.Mean(name=name) for name in ("one", "other")]

    def call(self, inputs):
        return inputs

    def train_step(self, *arguments):
        return backend.train_step(self, self.log, arguments)

    def log(self, data):
        for metric in self.logged:
            metric.update_state(0.0, sample_weight=BATCH)
        return self.get_metrics_result()


def gan_steps(quick, on_turn):
    """A step of `GAN` without and with R1."""
    name, tables = keras.backend.backend(), []
    x = np.random.default_rng(0).normal(size=(BATCH, SIZE)).astype("float32")
    tensor, rows = ops.convert_to_tensor(x), np.tile(x, (STEPS, 1))
    for penalty in (None, "r1"):
        model = kr.models.GAN(*networks(), latent_dim=LATENT, penalty=penalty)
        # On CPUs Keras leaves XLA to those who ask for it, as the step by hand does.
        xla = {"jit_compile": True} if name == "tensorflow" else {}
        model.compile(*optimizers(), **xla)
        idle = Idle()
        idle.compile(**xla)
        by_hand = BY_HAND_ON[name](*networks(), penalty is not None)

        def fit(model=model):
            model.fit(rows, batch_size=BATCH, shuffle=False, verbose=0)

        def steps(by_hand=by_hand):
            for _ in range(STEPS):
                by_hand(tensor)

        def around(steps=steps, idle=idle, fit=fit):
            steps()
            fit(idle)

        contestants = {AROUND: around, BY_HAND: steps, "GAN.fit": fit}
        timings = race(contestants, 5 if quick else 15, warmups=2, on_turn=on_turn)
        title = f"{name}: {STEPS} steps of a GAN, penalty {penalty}"
        tables.append(ratio_table(title, timings, AROUND, bars={"GAN.fit": 1.05}))
    return tables


def captioner_steps(quick, on_turn):
    """A step of the captioner, and one without the loss of its controller."""
    rng = np.random.default_rng(0)
    rows = 8 * 32
    x = {
        "features": rng.normal(size=(rows, 10, 64)).astype("float32"),
        "tokens": rng.integers(1, 500, (rows, 12)).astype("int32"),
    }
    classes = rng.integers(0, 4, (rows, 12)).astype("int32")
    contestants = {}
    for title, options in {
        "captions alone": {"syntax_weight": 0.0},
        "ModularCaptioner": {},
    }.items():
        model = kr.models.ModularCaptioner(500, 64, 4, **options)
        model.compile(keras.optimizers.Adam(1e-4))

        def fit(model=model):
            model.fit(x, classes, batch_size=32, shuffle=False, verbose=0)

        contestants[title] = fit
    timings = race(contestants, 3 if quick else 9, warmups=1, on_turn=on_turn)
    title = f"{keras.backend.backend()}: 8 steps of a captioner, 12 words of 10 regions"
    return [ratio_table(title, timings, "captions alone", bars={"ModularCaptioner": 1.05})]


def table(quick, on_turn):
    return Group(*gan_steps(quick, on_turn), *captioner_steps(quick, on_turn))
