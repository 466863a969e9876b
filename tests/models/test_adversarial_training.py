import keras
import numpy as np
import pytest
from keras import layers

import keras_regularize as kr

RNG = np.random.RandomState(0)
X, Y = RNG.rand(16, 4).astype("float32"), RNG.randint(0, 3, 16)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def network(normalize=False):
    keras.utils.set_random_seed(1)
    middle = [layers.BatchNormalization()] if normalize else []
    return keras.Sequential([keras.Input((4,)), layers.Dense(5, "tanh"), *middle, layers.Dense(3)])


def one_step(model, x=X, y=Y, loss=LOSS):
    model.compile(keras.optimizers.SGD(0.5), loss, metrics=["accuracy"])
    return model.fit(x, y, batch_size=16, verbose=0, shuffle=False).history


@pytest.mark.parametrize("clean_weight", [0.0, 0.3, 1.0])
def test_loss_is_the_mixture_and_the_step_its_gradient(clean_weight):
    attack = kr.attacks.FGSM(0.1)
    net, reference = network(), network()
    found = keras.ops.convert_to_numpy(attack(net, X, Y))
    history = one_step(kr.models.AdversarialTraining(net, attack, clean_weight))
    # The same objective on the two halves of one weighted batch.
    reference.compile(keras.optimizers.SGD(0.5), LOSS)
    weights = np.repeat([2 * (1 - clean_weight), 2 * clean_weight], 16).astype("float32")
    expected = reference.fit(
        np.concatenate([found, X]),
        np.concatenate([Y, Y]),
        sample_weight=weights,
        batch_size=32,
        verbose=0,
    ).history["loss"]
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-5)
    for a, b in zip(net.get_weights(), reference.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_logged_metrics_are_clean_where_there_is_a_clean_pass():
    plain = one_step(network())
    mixed = one_step(kr.models.AdversarialTraining(network(), kr.attacks.FGSM(0.5), 0.5))
    assert mixed["accuracy"] == plain["accuracy"]
    assert (
        one_step(kr.models.AdversarialTraining(network(), kr.attacks.FGSM(0.5)))["loss"]
        > plain["loss"]
    )


def test_attack_runs_in_inference_mode_and_moves_no_statistics():
    net = network(normalize=True)
    model = kr.models.AdversarialTraining(net, kr.attacks.PGD(0.0, 0.1, 3))
    plain = network(normalize=True)
    one_step(model), one_step(plain)
    for a, b in zip(net.get_weights(), plain.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_regression_and_several_inputs_and_outputs():
    a, b, t = (
        keras.Input((4,), name="a"),
        keras.Input((2,), name="b"),
        keras.Input((1,), dtype="int32", name="t"),
    )
    h = layers.Concatenate()([a, b, layers.Flatten()(layers.Embedding(5, 2)(t))])
    net = keras.Model({"a": a, "b": b, "t": t}, [layers.Dense(3)(h), layers.Dense(1)(h)])
    x = {"a": X, "b": X[:, :2], "t": RNG.randint(0, 5, (16, 1))}
    attack = kr.attacks.PGD(0.1, 0.05, 3, loss="compiled", norm="l2", bounds=None)
    model = kr.models.AdversarialTraining(net, attack)
    model.compile("sgd", [LOSS, "mse"])
    assert np.isfinite(model.fit(x, [Y, X[:, :1]], verbose=0).history["loss"]).all()


def test_text_through_a_layer_trains_the_embedding_too():
    tokens = RNG.randint(0, 9, (16, 5))
    net = keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            layers.Embedding(9, 4, name="words"),
            layers.Flatten(),
            layers.Dense(3),
        ]
    )
    before = net.get_weights()[0]
    attack = kr.attacks.PGD(0.1, 0.05, 2, layer="words", bounds=None)
    one_step(kr.models.AdversarialTraining(net, attack), tokens)
    assert np.abs(net.get_weights()[0] - before).max() > 1e-4
