"""GradAlign and InputGradientPenalty: one step against NumPy, invariances, edge cases, passes, effects."""

import keras
import numpy as np
import pytest
from counting import count, counting_model
from keras import layers, ops
from numpy_mlp import LOSS, RNG, WEIGHTS, X, Y, assert_one_step, gradients, losses, model

import keras_regularize as kr

WEIGHT = np.array([0.5, 2.0, 1.0, 0.0, 1.5, 1.0], "float32")


def test_a_step_of_the_penalty_is_that_of_the_formula():
    def objective(w):
        squares = (gradients(w, X, Y) ** 2).sum(-1)
        return np.mean(WEIGHT * (losses(w, X, Y) + 0.7 * squares))

    assert_one_step(
        kr.models.InputGradientPenalty(model(), factor=0.7), objective, sample_weight=WEIGHT
    )


def test_a_step_of_alignment_is_that_of_the_formula():
    noise = keras.random.uniform(X.shape, -0.5, 0.5, seed=keras.random.SeedGenerator(4))
    moved = X + ops.convert_to_numpy(noise).astype("float64")
    aims = gradients(WEIGHTS, X, Y)
    attacked = X + 0.5 * np.sign(aims)

    def objective(w):
        found = gradients(w, moved, Y)
        lengths = np.linalg.norm(found, axis=-1) * np.linalg.norm(aims, axis=-1)
        cosine = (found * aims).sum(-1) / lengths
        return np.mean(WEIGHT * (losses(w, attacked, Y) + 0.7 * (1 - cosine)))

    attack = kr.attacks.FGSM(0.5, bounds=None)
    assert_one_step(
        kr.models.GradAlign(model(), attack, factor=0.7, seed=4),
        objective,
        sample_weight=WEIGHT,
    )


def objective_of(wrapper, x=X, y=Y, loss=LOSS):
    wrapper.compile(keras.optimizers.SGD(0.1), loss)
    value = float(wrapper.train_on_batch(x, y))
    assert all(np.isfinite(w).all() for w in wrapper.get_weights())
    return value


def test_aligned_gradients_cost_nothing_and_missing_ones_are_left_out():
    # With one score per input the gradients of a sample are parallel everywhere.
    net = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    binary = keras.losses.BinaryCrossentropy(from_logits=True)

    def objective(kernel, factor):
        net.set_weights([np.full((4, 1), kernel), np.zeros(1)])
        attack = kr.attacks.FGSM(0.5, bounds=None)
        return objective_of(kr.models.GradAlign(net, attack, factor), y=Y > 0, loss=binary)

    assert objective(0.3, 100.0) == pytest.approx(objective(0.3, 0.0), abs=1e-4)
    assert objective(0.0, 100.0) == pytest.approx(np.log(2), abs=1e-6)


def test_passes_are_counted():
    for wrap, expected in [
        # A double backward goes through the backward pass and the forward pass.
        (lambda net: kr.models.InputGradientPenalty(net, 0.1), (2, 3, 2)),
        # The attack, the aim, the attacked inputs, the differentiated gradient.
        (lambda net: kr.models.GradAlign(net, kr.attacks.FGSM(0.1)), (4, 5, 2)),
    ]:
        net, counter = counting_model(inputs=4)
        wrapper = wrap(net)
        wrapper.compile("sgd", LOSS)
        wrapper.train_on_batch(X, Y)
        assert tuple(count(counter, lambda: wrapper.train_on_batch(X, Y))) == expected  # noqa: B023


@pytest.mark.parametrize("wrap", ["penalty", "alignment"])
def test_inputs_of_several_kinds(wrap):
    attack = kr.attacks.PGD(0.1, 0.1, 1, loss="compiled", random_start=False, bounds=None)
    wrappers = {
        "penalty": lambda net: kr.models.InputGradientPenalty(net, 0.1),
        "alignment": lambda net: kr.models.GradAlign(net, attack, 0.1),
    }
    a, b = keras.Input((4,), name="a"), keras.Input((), name="b")
    t = keras.Input((2,), dtype="int32", name="t")
    h = layers.Flatten()(layers.Embedding(5, 2)(t))
    h = layers.Concatenate()([a, layers.Reshape((1,))(b), h])
    net = keras.Model({"a": a, "b": b, "t": t}, layers.Dense(1)(layers.Dense(5, "tanh")(h)))
    wrapper = wrappers[wrap](net)
    wrapper.compile("sgd", "mse")
    x = {"a": X, "b": X[:, 0], "t": np.zeros((6, 2), "int32")}
    history = wrapper.fit(x, X[:, :1], batch_size=5, verbose=0).history  # And a batch of one.
    assert np.isfinite(history["loss"]).all()


@pytest.mark.parametrize("wrap", ["penalty", "alignment"])
def test_tokens_at_their_embedding(wrap):
    tokens, labels = RNG.randint(0, 9, (12, 5)), RNG.randint(0, 3, 12)
    words = layers.Embedding(9, 4, name="words")
    net = keras.Sequential(
        [keras.Input((5,), dtype="int32"), words, layers.Flatten(), layers.Dense(3)]
    )
    before = net.get_weights()[0]
    if wrap == "penalty":
        wrapper = kr.models.InputGradientPenalty(net, 0.1, layer=words)
        refused = kr.models.InputGradientPenalty(net, 0.1)
    else:
        attack = kr.attacks.FGSM(0.1, layer="words", bounds=None)
        wrapper = kr.models.GradAlign(net, attack)
        refused = kr.models.GradAlign(net)
    objective_of(wrapper, tokens, labels)
    assert np.abs(net.get_weights()[0] - before).max() > 1e-5
    refused.compile("sgd", LOSS)
    with pytest.raises(ValueError, match="for token ids pass `layer=`"):
        refused.train_on_batch(tokens, labels)


def test_saturated_logits_give_finite_steps():
    for wrap in (
        lambda net: kr.models.InputGradientPenalty(net, 1.0),
        lambda net: kr.models.GradAlign(net, kr.attacks.FGSM(0.1)),
    ):
        net = model()
        net.set_weights([1e2 * w for w in WEIGHTS[:2]] + [1e4 * w for w in WEIGHTS[2:]])
        assert np.isfinite(objective_of(wrap(net)))


def test_wrong_arguments():
    with pytest.raises(ValueError, match="`factor` must be a number at least 0 or a schedule"):
        kr.models.InputGradientPenalty(model(), factor=-1)
    with pytest.raises(ValueError, match="`factor` must be"):
        kr.models.GradAlign(model(), factor=-1)
    with pytest.raises(ValueError, match="`attack` must be an attack"):
        kr.models.GradAlign(model(), 0.1)
    wrapper = kr.models.InputGradientPenalty(model())
    wrapper.compile("sgd", LOSS)
    with pytest.raises(ValueError, match="needs labels `y`"):
        wrapper.train_on_batch(X)


def test_a_dataset_is_checked_by_its_specification():
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(3)
    wraps = (
        kr.models.InputGradientPenalty,
        lambda net: kr.models.FreeAdversarialTraining(net, 0.1, 2, batch_size=3),
    )
    for wrap in wraps:
        wrapper = wrap(model())
        wrapper.compile("sgd", LOSS)
        assert np.isfinite(wrapper.fit(data, shuffle=False, verbose=0).history["loss"]).all()
        with pytest.raises(ValueError, match="Received inputs of dtype int32"):
            wrapper.fit(data.map(lambda x, y: (tf.cast(x, "int32"), y)), verbose=0)


@pytest.mark.rotating
def test_training_flattens_and_aligns():
    # Of its own: the shared numbers depend on which tests ran before, and on some data the effect comes late.
    rng = np.random.RandomState(0)
    x = rng.normal(size=(100, 4)).astype("float32")
    y = (np.abs(x[:, 0]) > 0.7).astype("int32")
    moved = x + rng.uniform(-0.3, 0.3, x.shape)
    attack = kr.attacks.FGSM(0.3, bounds=None)
    norms, cosines = {}, {}
    for name, wrap in {
        "attacked": lambda net: kr.models.AdversarialTraining(net, attack),
        "aligned": lambda net: kr.models.GradAlign(net, attack, factor=3.0, seed=1),
        "plain": lambda net: net,
        "penalized": lambda net: kr.models.InputGradientPenalty(net, factor=1.0),
    }.items():
        net = model()
        wrapper = wrap(net)
        wrapper.compile(keras.optimizers.Adam(0.05), LOSS)
        many = np.tile(x, (150, 1)), np.tile(y, 150)  # One long epoch, as each start costs.
        wrapper.fit(*many, batch_size=100, verbose=0, shuffle=False)
        weights = [w.astype("float64") for w in net.get_weights()]
        one, other = gradients(weights, x, y), gradients(weights, moved, y)
        norms[name] = np.mean((one**2).sum(-1))
        lengths = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
        cosines[name] = np.mean((one * other).sum(-1) / lengths)
    assert norms["penalized"] < 0.3 * norms["plain"]
    assert 1 - cosines["aligned"] < 0.7 * (1 - cosines["attacked"])
