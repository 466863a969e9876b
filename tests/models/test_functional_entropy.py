"""Functional entropy: one step against NumPy, symmetry, ignored modalities, structures, passes, effect."""

import keras
import numpy as np
import pytest
from counting import count, counting_model
from keras import layers, ops
from numpy_mlp import (
    LOSS,
    RNG,
    WEIGHTS,
    X,
    Y,
    assert_one_step,
    gradients,
    log_probabilities,
    losses,
    model,
)

import keras_regularize as kr

SPLIT = [X[:, :1], X[:, 1:]]


def bimodal(net=None):
    """The small classifier, fed with one and with three features."""
    parts = [keras.Input((1,)), keras.Input((3,))]
    return keras.Model(parts, (net or model())(layers.Concatenate()(parts)))


def wrap(net, **arguments):
    return kr.models.FunctionalEntropyRegularization(net, **{"seed": 3, **arguments})


def noise_of(parts, samples):
    """The noise as a step draws it, joined."""
    generator, noise = keras.random.SeedGenerator(3), []
    for part in parts:
        draws = keras.random.normal((samples * len(part), part.shape[1]), seed=generator)
        noise.append(part.std(axis=0) * ops.convert_to_numpy(draws).astype("float64"))
    return np.concatenate(noise, axis=1)


@pytest.mark.parametrize("measure, norm, factor", [("entropy", 2, 1e-2), ("variance", 1.5, 1e-3)])
def test_a_step_is_that_of_the_formula_with_sample_weights(measure, norm, factor):
    moved = np.tile(X, (2, 1)) + noise_of([p.astype("float64") for p in SPLIT], 2)
    weight = np.array([0.5, 2.0, 1.0, 0.0, 1.5, 1.0], "float32")
    target = np.tile(np.exp(log_probabilities(WEIGHTS, X)), (2, 1))

    def objective(w):
        slope = gradients(w, moved, target)
        below = losses(w, moved, target) if measure == "entropy" else 1.0
        inverse = []
        for part in (slope[:, :1], slope[:, 1:]):
            inverse.append(1 / np.average((part**2).sum(-1) / below, weights=np.tile(weight, 2)))
        return np.mean(weight * losses(w, X, Y)) + factor * np.linalg.norm(inverse, norm)

    wrapper = wrap(bimodal(), factor=factor, samples=2, measure=measure, norm=norm)
    assert_one_step(wrapper, objective, SPLIT, Y, weight, rtol=2e-3, atol=2e-4)


def numbers(x):
    return ops.convert_to_numpy(x)


def test_the_penalty_is_symmetric_and_of_one_modality_the_inverse():
    noise = [0.1 * RNG.normal(size=part.shape).astype("float32") for part in SPLIT]
    one = wrap(bimodal())
    a, b = keras.Input((3,)), keras.Input((1,))
    swapped = wrap(keras.Model([a, b], one.model([b, a])))
    np.testing.assert_allclose(
        numbers(one.information(SPLIT, noise))[::-1],
        numbers(swapped.information(SPLIT[::-1], noise[::-1])),
        rtol=1e-5,
    )
    penalties = [one.penalty(SPLIT, noise), swapped.penalty(SPLIT[::-1], noise[::-1])]
    assert float(numbers(penalties[0])) == pytest.approx(float(numbers(penalties[1])), rel=1e-5)
    single, joined = wrap(model()), np.concatenate(noise, axis=1)
    information = numbers(single.information(X, joined))
    assert information.shape == (1,)
    np.testing.assert_allclose(numbers(single.penalty(X, joined)), 1 / information[0], rtol=1e-5)
    only = wrap(bimodal(), inputs=[1])
    still = [0 * noise[0], noise[1]]
    np.testing.assert_allclose(
        numbers(only.information(SPLIT, noise)),
        numbers(one.information(SPLIT, still))[1:],
        rtol=1e-5,
    )


@pytest.mark.parametrize("scale", [0.0, 1e-4, 1e3])
def test_ignored_and_saturating_modalities_have_finite_steps(scale):
    net = model()
    net.set_weights([np.concatenate([scale * WEIGHTS[0][:1], WEIGHTS[0][1:]]), *WEIGHTS[1:]])
    wrapper = wrap(bimodal(net), factor=1.0)
    wrapper.compile(keras.optimizers.SGD(0.1, global_clipnorm=1.0), LOSS)
    loss = wrapper.train_on_batch(SPLIT, Y)
    assert np.isfinite(loss) and all(np.isfinite(w).all() for w in net.get_weights())
    if scale == 0.0:
        assert loss == pytest.approx(1e12, rel=1e-3)


def test_dictionaries_images_and_token_ids_and_batches_of_one():
    image, t = keras.Input((4, 4, 1), name="image"), keras.Input((2,), dtype="int32", name="text")
    words = layers.Flatten()(layers.Embedding(5, 2)(t))
    h = layers.Concatenate()([layers.Flatten()(layers.Conv2D(2, 3)(image)), words])
    net = keras.Model({"image": image, "text": t}, layers.Dense(3, "softmax")(h))
    x = {"image": RNG.rand(5, 4, 4, 1), "text": RNG.randint(0, 5, (5, 2))}
    wrapper = wrap(net, factor=1e-4)
    wrapper.compile("sgd", "sparse_categorical_crossentropy")
    assert np.isfinite(wrapper.fit(x, Y[:5], batch_size=4, verbose=0).history["loss"]).all()
    for inputs in (["text"], ["sound"], ["image", "text"]):
        wrapper = wrap(net, inputs=inputs)
        wrapper.compile("sgd", "sparse_categorical_crossentropy")
        with pytest.raises(ValueError, match=r"must name floating inputs, which are \['image'\]"):
            wrapper.train_on_batch(x, Y[:5])


def test_passes_are_counted():
    net, counter = counting_model(inputs=4)
    wrapper = wrap(net)
    wrapper.compile("sgd", LOSS)
    wrapper.train_on_batch(X, Y)
    # The draws go through as one batch, and a double backward through both passes of it.
    assert tuple(count(counter, lambda: wrapper.train_on_batch(X, Y))) == (2, 3, 2)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"factor": -1}, "`factor` must be"),
        ({"samples": 0}, "`samples` must be an integer of at least 1"),
        ({"measure": "log"}, "`measure` must be one of 'entropy', 'variance'"),
        ({"norm": 0.5}, "`norm` must be a number at least 1"),
        ({"inputs": "image"}, "`inputs` must be a list of names"),
        ({"inputs": []}, "`inputs` must be a list of names"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        wrap(model(), **arguments)


@pytest.mark.rotating
def test_training_raises_the_information_of_the_weaker_modality():
    rng = np.random.RandomState(0)
    y = rng.randint(0, 3, 100)
    weak = (np.eye(3)[y] + rng.normal(size=(100, 3))).astype("float32")
    leak = 3 * np.eye(3, dtype="float32")[y]
    noise = [0.3 * rng.normal(size=part.shape).astype("float32") for part in (weak, leak)]
    lowest = []
    for factor in (0.0, 0.1):
        keras.utils.set_random_seed(0)
        parts = [keras.Input((3,)), keras.Input((3,))]
        wrapper = wrap(
            keras.Model(parts, layers.Dense(3)(layers.Concatenate()(parts))), factor=factor
        )
        wrapper.compile(keras.optimizers.Adam(0.05, global_clipnorm=1.0), LOSS)
        many = np.tile(np.arange(100), 60)  # One long epoch, as each start costs.
        wrapper.fit([weak[many], leak[many]], y[many], batch_size=100, shuffle=False, verbose=0)
        lowest.append(numbers(wrapper.information([weak, leak], noise)).min())
    assert lowest[1] > 5 * lowest[0]
