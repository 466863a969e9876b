"""What a SAM step of this package costs beside what a user of the backend would write or take instead.

Both train the same Keras network on the same batches with the same SGD, and track the loss: on PyTorch a plain
loop with `torch.optim`, on JAX a compiled step with `optax.contrib.sam`, on TensorFlow a compiled step with
gradient tapes. That they do the same is checked: they must end with the same weights.
"""

import importlib.util
import time

import keras
import numpy as np
from rich.console import Group
from rich.text import Text

import keras_regularize as kr
from benchmarks.timing import race, ratio_table
from benchmarks.train_steps import (
    BATCH,
    SKIPPED,
    convolutional_network,
    data,
    dense_network,
    fit_contestant,
)

RHO, RATE, MOMENTUM = 0.05, 0.01, 0.9
OURS = "kr.models.SAM"
THEIRS = {
    "torch": "loop with torch.optim",
    "jax": "optax.contrib.sam",
    "tensorflow": "step with GradientTape",
}
BARS = {OURS: 1.05}


def torch_step(net):
    """A function `(x, y) -> loss` that takes a SAM step as one writes it in PyTorch."""
    import torch

    parameters = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, RATE, momentum=MOMENTUM)
    crossentropy = torch.nn.CrossEntropyLoss()

    def step(x, y):
        x, y = torch.from_numpy(x), torch.from_numpy(y)
        loss = crossentropy(net(x, training=True), y)
        loss.backward()
        with torch.no_grad():
            norm = torch.sqrt(sum((p.grad**2).sum() for p in parameters)) + 1e-12
            saved = [p.detach().clone() for p in parameters]
            for p in parameters:
                p.add_(p.grad, alpha=float(RHO / norm))
        optimizer.zero_grad()
        crossentropy(net(x, training=True), y).backward()
        with torch.no_grad():
            for p, value in zip(parameters, saved):
                p.copy_(value)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step, lambda: None


def jax_step(net):
    """The same with Optax, its ascent inside of the update; the second function stores the weights."""
    import jax
    import optax

    def mean_loss(weights, x, y):
        logits, _ = net.stateless_call(weights, fixed, x, training=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    fixed = [v.value for v in net.non_trainable_variables]
    ascent = optax.chain(optax.contrib.normalize(), optax.sgd(RHO))
    optimizer = optax.contrib.sam(
        optax.sgd(RATE, momentum=MOMENTUM), ascent, sync_period=2, opaque_mode=True
    )

    def update(weights, state, x, y):
        loss, gradients = jax.value_and_grad(mean_loss)(weights, x, y)
        updates, state = optimizer.update(
            gradients, state, weights, grad_fn=lambda w, _: jax.grad(mean_loss)(w, x, y)
        )
        return loss, optax.apply_updates(weights, updates), state

    update = jax.jit(update, donate_argnums=(0, 1))
    weights = [v.value.copy() for v in net.trainable_variables]  # Donated, so not the net's own.
    now = {"weights": weights, "state": optimizer.init(weights)}

    def step(x, y):
        loss, now["weights"], now["state"] = update(now["weights"], now["state"], x, y)
        return loss

    def store():
        for variable, value in zip(net.trainable_variables, now["weights"]):
            variable.assign(value)

    return step, store


def tensorflow_step(net):
    """The same with tapes, the weights moved and moved back."""
    import tensorflow as tf

    crossentropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.SGD(RATE, momentum=MOMENTUM)
    variables = [v.value for v in net.trainable_variables]
    optimizer.build(net.trainable_variables)

    def gradients(x, y):
        with tf.GradientTape() as tape:
            loss = crossentropy(y, net(x, training=True))
        return loss, tape.gradient(loss, variables)

    @tf.function(jit_compile=True)  # As `fit` does by default.
    def step(x, y):
        loss, first = gradients(x, y)
        scale = RHO / (tf.linalg.global_norm(first) + 1e-12)
        saved = [tf.identity(v) for v in variables]
        for v, g in zip(variables, first):
            v.assign_add(scale * g)
        _, second = gradients(x, y)
        for v, value in zip(variables, saved):
            v.assign(value)
        optimizer.apply(second, net.trainable_variables)
        return loss

    return step, lambda: None


STEPS = {"torch": torch_step, "jax": jax_step, "tensorflow": tensorflow_step}


def loop_contestant(net, x, y):
    """`(run, store)`: `run` trains an epoch and returns seconds per step, `store` completes the net's weights."""
    step, store = STEPS[keras.backend.backend()](net)

    def run():
        total = 0.0
        for index, begin in enumerate(range(0, len(x), BATCH)):
            if index == SKIPPED:
                float(total)  # Waits, as `fit_contestant` does.
                start = time.perf_counter()
            total = total + step(x[begin : begin + BATCH], y[begin : begin + BATCH])
        float(total)
        return (time.perf_counter() - start) / (len(x) // BATCH - SKIPPED)

    return run, store


def measure(network=convolutional_network, steps=10, rounds=5, on_turn=None):
    """`{name: Timing}` per step of the alternative and of `kr.models.SAM`."""
    x, y = data(network, steps)
    theirs, ours = network(), network()
    loop, store = loop_contestant(theirs, x, y)
    fit = fit_contestant(kr.models.SAM(ours, rho=RHO), x, y)
    timings = race({THEIRS[keras.backend.backend()]: loop, OURS: fit}, rounds, on_turn=on_turn)
    store()
    for a, b in zip(theirs.get_weights(), ours.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-3, err_msg="The contestants did not do the same.")
    return timings


def table(quick=False, on_turn=None):
    backend = keras.backend.backend()
    if backend == "jax" and importlib.util.find_spec("optax") is None:
        return Text(
            "Alternatives on JAX, not measured: needs Optax (the extra `bench`).", style="dim"
        )
    steps, rounds = (5, 3) if quick else (20, 9)
    large = measure(steps=steps, rounds=rounds, on_turn=on_turn)
    small = measure(dense_network, 10 * steps, rounds, on_turn)
    baseline = THEIRS[backend]
    return Group(
        ratio_table(f"{backend}: a SAM step, convolutional network", large, baseline, bars=BARS),
        ratio_table(f"{backend}: a SAM step, tiny dense network", small, baseline),
    )
