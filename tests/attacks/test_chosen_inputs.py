"""`inputs=`: of several inputs those named are perturbed, as if the others were a part of the model."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_regularize as kr

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
RNG = np.random.default_rng(0)
X, OTHER = (RNG.random((6, size), dtype="float32") for size in (4, 3))
IDS, Y = RNG.integers(0, 7, (6, 2)), RNG.integers(0, 3, 6)


def attacks(**arguments):
    return {
        "FGSM": kr.attacks.FGSM(0.1, **arguments),
        "PGD": kr.attacks.PGD(0.3, 0.1, 3, "l2", seed=1, **arguments),
        "APGD": kr.attacks.APGD(0.3, 4, "l2", seed=1, **arguments),
        "PenalizedAscent": kr.attacks.PenalizedAscent(
            steps=3, **{k: v for k, v in arguments.items() if k != "bounds"}
        ),
        "VirtualAdversarial": kr.attacks.VirtualAdversarial(
            0.5, seed=1, **{k: v for k, v in arguments.items() if k != "bounds"}
        ),
    }


def two_inputs(form=dict):
    keras.utils.set_random_seed(0)
    x, other = keras.Input((4,), name="x"), keras.Input((3,), name="other")
    scores = layers.Dense(3)(layers.Dense(5, "tanh")(layers.Concatenate()([x, other])))
    net = keras.Model({"x": x, "other": other} if form is dict else [other, x], scores)
    net.compile("sgd", LOSS)
    return net


def arrays(structure):
    return keras.tree.map_structure(ops.convert_to_numpy, structure)


@pytest.mark.parametrize("form", [dict, list])
@pytest.mark.parametrize("name", attacks())
def test_an_attack_equals_that_on_a_model_of_one_input(name, form):
    net = two_inputs(form)
    name_of = ("x", "other") if form is dict else (1, 0)
    # The other input is far outside of the bounds, which are not its own.
    other = ops.convert_to_tensor(OTHER + 20.0)

    def whole(x):
        return {"x": x, "other": other} if form is dict else [other, x]

    def alone(x, training=False):
        return net(whole(x), training=training)

    found = arrays(attacks(inputs=[name_of[0]])[name](net, whole(X), Y))
    expected = ops.convert_to_numpy(attacks(from_logits=True)[name](alone, X, Y))
    moves = name == "VirtualAdversarial"
    assert np.abs(expected - (0 if moves else X)).max() > 1e-4 or name == "APGD"
    np.testing.assert_allclose(found[name_of[0]], expected, rtol=1e-4, atol=1e-5)
    kept = ops.convert_to_numpy(0 * other if moves else other)
    np.testing.assert_array_equal(found[name_of[1]], kept)


@pytest.mark.parametrize("name", attacks())
def test_the_configuration_keeps_the_names(name):
    attack = attacks(inputs=("x", 1))[name]
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(attack))
    assert again.inputs == attack.inputs == ["x", 1]
    assert again.get_config() == attack.get_config()


def test_a_given_start_may_be_of_all_inputs():
    net, whole = two_inputs(), {"x": X, "other": OTHER}
    attack = kr.attacks.PGD(0.3, steps=0, inputs=["x"])
    move = {"x": 0.1 - 0.2 * (X > 0.5), "other": OTHER}
    found = arrays(attack(net, whole, Y, initial_perturbation=move))
    np.testing.assert_allclose(found["x"], X + move["x"], rtol=1e-5)
    np.testing.assert_array_equal(found["other"], OTHER)


def with_ids(dtype, form=dict):
    keras.utils.set_random_seed(0)
    ids, x = keras.Input((2,), dtype=dtype, name="ids"), keras.Input((4,), name="x")
    words = layers.Flatten()(layers.Embedding(7, 3)(ids))
    scores = layers.Dense(3)(layers.Dense(5, "tanh")(layers.Concatenate()([words, x])))
    return keras.Model({"ids": ids, "x": x} if form is dict else [ids, x], scores)


WRAPPERS = {
    "VAT": lambda net, **k: kr.models.VAT(net, 0.5, seed=1, **k),
    "RobustSelfSupervised": lambda net, **k: kr.models.RobustSelfSupervised(net, **k),
    "FreeAdversarialTraining": lambda net, **k: kr.models.FreeAdversarialTraining(
        net, 0.1, 2, batch_size=6, **k
    ),
    "InputGradientPenalty": lambda net, **k: kr.models.InputGradientPenalty(net, 1.0, **k),
    "AdversarialTraining": lambda net, **k: kr.models.AdversarialTraining(
        net, kr.attacks.FGSM(0.1, **k)
    ),
    "TRADES": lambda net, **k: kr.models.TRADES(
        net, kr.attacks.PGD(0.1, 0.05, 2, loss="kl", seed=1, **k)
    ),
    "ELLE": lambda net, **k: kr.models.ELLE(
        net, 0.1, 100.0, attack=kr.attacks.FGSM(0.1, **k), seed=1
    ),
    "GradAlign": lambda net, **k: kr.models.GradAlign(net, kr.attacks.FGSM(0.1, **k), seed=1),
}


@pytest.mark.parametrize("form", [dict, list])
@pytest.mark.parametrize("name", WRAPPERS)
def test_floating_ids_beside_chosen_inputs_are_as_integer_ones(name, form):
    results = []
    for dtype in ("int32", "float32"):
        chosen = {} if dtype == "int32" else {"inputs": ["x"] if form is dict else [1]}
        model = WRAPPERS[name](with_ids(dtype, form), **chosen)
        model.compile(keras.optimizers.SGD(0.1), LOSS)
        ids = IDS.astype(dtype)
        x = {"ids": ids, "x": X} if form is dict else [ids, X]
        losses = [float(model.train_on_batch(x, Y)) for _ in range(2)]
        results.append((losses, model.model.get_weights()))
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=1e-5)
    for a, b in zip(results[1][1], results[0][1]):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_keep_the_names_when_saved(name, tmp_path):
    model = WRAPPERS[name](with_ids("float32"), inputs=["x"])
    model.compile("sgd", LOSS)
    x = {"ids": IDS.astype("float32"), "x": X}
    model.train_on_batch(x, Y)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    configs = [{k: v for k, v in m.get_config().items() if k != "model"} for m in (again, model)]
    assert configs[0] == configs[1]
    assert float(again.train_on_batch(x, Y)) == pytest.approx(
        float(model.train_on_batch(x, Y)), rel=1e-5
    )


def test_names_that_do_not_fit_are_refused():
    net, x = with_ids("float32"), {"ids": IDS.astype("float32"), "x": X}
    net.compile("sgd", LOSS)
    with pytest.raises(ValueError, match=r"must name floating inputs, which are \['ids', 'x'\]"):
        kr.attacks.FGSM(inputs=["y"])(net, x, Y)
    with pytest.raises(ValueError, match=r"must name floating inputs, which are \['x'\]"):
        kr.attacks.FGSM(inputs=["ids"])(net, {**x, "ids": IDS}, Y)
    with pytest.raises(ValueError, match="read as ids|Ids cannot be perturbed"):
        kr.attacks.FGSM(inputs=["ids"], bounds=None)(net, x, Y)
    with pytest.raises(ValueError, match="list of names or positions"):
        kr.attacks.FGSM(inputs="x")
    with pytest.raises(ValueError, match="pass one of the two"):
        kr.models.VAT(net, layer="embedding", inputs=["x"])
    for wrap in WRAPPERS.values():
        with pytest.raises(ValueError, match="must name floating inputs"):
            model = wrap(net, inputs=["y"])
            model.compile("sgd", LOSS)
            model.fit(x, Y, verbose=0)
