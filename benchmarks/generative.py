"""What a step of two networks costs, beside the same passes written by hand for the backend."""

import functools

import keras
import numpy as np
from keras import layers, ops
from rich.console import Group

import keras_regularize as kr
from benchmarks.timing import race, ratio_table

BATCH, SIZE, WIDTH, LATENT = 128, 784, 256, 64
#: Enough for what `fit` does once to be little.
STEPS = 40
BY_HAND = "by hand"


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


def gan_steps(quick, on_turn):
    """A step of `GAN` without and with R1."""
    backend, tables = keras.backend.backend(), []
    x = np.random.default_rng(0).normal(size=(BATCH, SIZE)).astype("float32")
    for penalty in (None, "r1"):
        model = kr.models.GAN(*networks(), latent_dim=LATENT, penalty=penalty)
        model.compile(*optimizers())
        by_hand = BY_HAND_ON[backend](*networks(), penalty is not None)
        tensor, rows = ops.convert_to_tensor(x), np.tile(x, (STEPS, 1))

        def ours(model=model, rows=rows):
            model.fit(rows, batch_size=BATCH, shuffle=False, verbose=0)

        def theirs(by_hand=by_hand, tensor=tensor):
            for _ in range(STEPS):
                by_hand(tensor)

        timings = race(
            {BY_HAND: theirs, "GAN.fit": ours}, 5 if quick else 15, warmups=2, on_turn=on_turn
        )
        title = f"{backend}: {STEPS} steps of a GAN, penalty {penalty}, with what `fit` costs"
        tables.append(ratio_table(title, timings, BY_HAND, bars={"GAN.fit": 1.05}))
    return tables


def table(quick, on_turn):
    return Group(*gan_steps(quick, on_turn))
