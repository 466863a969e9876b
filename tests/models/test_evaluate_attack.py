"""`evaluate_attack`: robust accuracy among what `evaluate` and validation report."""

import keras
import numpy as np
import pytest
from counting import count, counting_model
from keras import layers

import keras_regularize as kr

RNG = np.random.default_rng(0)
X = RNG.random((40, 4), "float32")
Y = np.argmax(X[:, :3], axis=1)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
STEP = kr.attacks.FGSM(0.02)
ATTACK = kr.attacks.PGD(0.05, 0.02, 3, random_start=False)


def network(outputs=3):
    keras.utils.set_random_seed(1)
    normalization = layers.BatchNormalization()
    return keras.Sequential(
        [keras.Input((4,)), layers.Dense(8, "tanh"), normalization, layers.Dense(outputs)]
    )


def compiled(model, **options):
    model.compile(keras.optimizers.Adam(0.02), LOSS, metrics=["accuracy"], **options)
    return model


WRAPPERS = {
    "AdversarialTraining": lambda net: kr.models.AdversarialTraining(
        net, STEP, evaluate_attack=ATTACK
    ),
    "SAM(TRADES)": lambda net: kr.models.SAM(kr.models.TRADES(net, STEP, evaluate_attack=ATTACK)),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_evaluate_and_validation_report_robust_accuracy(wrap):
    net = network()
    model = compiled(wrap(net))
    history = model.fit(
        X, Y, batch_size=20, epochs=2, validation_data=(X[:33], Y[:33]), verbose=0
    ).history
    assert set(history) == {
        *("loss", "accuracy"),
        *("val_loss", "val_accuracy", "val_robust_accuracy"),
    }
    before = [np.array(v) for v in model.variables]
    result = model.evaluate(X[:33], Y[:33], batch_size=20, verbose=0, return_dict=True)
    assert result["robust_accuracy"] == history["val_robust_accuracy"][-1]
    expected = kr.analysis.robust_accuracy(net, X[:33], Y[:33], ATTACK)
    assert result["robust_accuracy"] == pytest.approx(expected, abs=1e-6)
    assert 0 < result["robust_accuracy"] < result["accuracy"]
    for variable, value in zip(model.variables, before):
        np.testing.assert_array_equal(np.array(variable), value)

    # Beside Keras' own numbers, which are those of the wrapped model; the weights of samples do not count.
    plain = compiled(net).evaluate(X[:33], Y[:33], verbose=0)
    listed = model.evaluate(X[:33], Y[:33], verbose=0)
    np.testing.assert_allclose(listed, [*plain, expected], rtol=1e-5, atol=1e-6)
    weights = np.arange(33.0) < 5
    columns = {"label": Y[:33], "index": np.arange(33)}
    logs = model.test_on_batch(X[:33], columns, sample_weight=weights, return_dict=True)
    assert float(logs["robust_accuracy"]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("nest", [lambda m: m, kr.models.SAM])
def test_clean_inputs_are_predicted_once(nest):
    net, counter = counting_model()
    model = compiled(nest(kr.models.TRADES(net, STEP, evaluate_attack=ATTACK)))
    model.evaluate(X, Y, batch_size=20, verbose=0)
    passes = count(counter, lambda: model.evaluate(X, Y, batch_size=20, verbose=0))
    # Each of two batches: the clean inputs, three steps of the attack, the attacked inputs.
    assert passes == (2 * (1 + 3 + 1), 2 * 3, 0)


def test_early_stopping_on_it():
    model = compiled(WRAPPERS["AdversarialTraining"](network()))
    model.optimizer.learning_rate = 0.0
    stop = keras.callbacks.EarlyStopping("val_robust_accuracy", mode="max", patience=1)
    # Steady statistics of the batch, so that nothing improves.
    model.model.layers[1].momentum = 1.0
    history = model.fit(X, Y, validation_split=0.5, epochs=5, callbacks=[stop], verbose=0).history
    assert len(history["val_robust_accuracy"]) == 2


def test_random_starts_differ_from_batch_to_batch_and_saving_keeps_the_attack(tmp_path):
    attack = kr.attacks.PGD(0.1, 0.0, 0, seed=3)
    model = compiled(kr.models.TRADES(network(), STEP, evaluate_attack=attack))
    model.fit(X, Y, verbose=0)
    state = np.array(attack.seed_generator.state)
    model.evaluate(X, Y, verbose=0)
    assert (np.array(attack.seed_generator.state) != state).any()
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")
    assert restored.evaluate_attack.get_config() == attack.get_config()
    result = restored.evaluate(X, Y, verbose=0, return_dict=True)
    assert result["robust_accuracy"] == pytest.approx(
        model.evaluate(X, Y, verbose=0, return_dict=True)["robust_accuracy"], abs=1e-6
    )
    model.save_weights(tmp_path / "m.weights.h5")
    kr.models.TRADES(network(), STEP).load_weights(tmp_path / "m.weights.h5")


def test_unlabelled_rows_do_not_count():
    net = network()
    model = compiled(kr.models.VAT(net, epsilon=0.1, evaluate_attack=ATTACK))
    partly = np.where(np.arange(40) < 25, Y, -1)
    result = model.evaluate(X, partly, verbose=0, return_dict=True)
    expected = kr.analysis.robust_accuracy(net, X[:25], Y[:25], ATTACK)
    assert result["robust_accuracy"] == pytest.approx(expected, abs=1e-6)
    assert 0 < expected < 1


def test_one_logit():
    net = network(outputs=1)
    labels = (Y == 0).astype("int32")
    model = kr.models.AdversarialTraining(net, STEP, evaluate_attack=ATTACK)
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    model.fit(X, labels[:, None], epochs=3, verbose=0)
    result = model.evaluate(X, labels[:, None], verbose=0, return_dict=True)
    expected = kr.analysis.robust_accuracy(net, X, labels, ATTACK)
    assert result["robust_accuracy"] == pytest.approx(expected, abs=1e-6)


def test_zero_epsilon_is_accuracy():
    model = kr.models.TRADES(network(), STEP, evaluate_attack=kr.attacks.FGSM(0.0))
    result = compiled(model).evaluate(X, Y, verbose=0, return_dict=True)
    assert result["robust_accuracy"] == pytest.approx(result["accuracy"], abs=1e-6)


def test_of_several_outputs_that_with_the_loss_is_attacked():
    inputs = keras.Input((4,))
    a, b = layers.Dense(3, name="a"), layers.Dense(1, name="b")
    one, both = keras.Model(inputs, a(inputs)), keras.Model(inputs, [b(inputs), a(inputs)])
    results = []
    for net, loss in ((one, LOSS), (both, {"a": LOSS, "b": None}), (both, [None, LOSS])):
        model = kr.models.VAT(net, evaluate_attack=ATTACK)
        model.compile("sgd", loss)
        y = Y if net is one else [Y[:, None], Y] if isinstance(loss, list) else {"a": Y, "b": Y}
        results.append(model.evaluate(X, y, verbose=0, return_dict=True)["robust_accuracy"])
    assert results[1:] == results[:1] * 2


def test_what_cannot_be_evaluated():
    def wrap(attack=STEP, evaluate=ATTACK, net=None):
        return kr.models.AdversarialTraining(net or network(), attack, evaluate_attack=evaluate)

    virtual, targeted = kr.attacks.VirtualAdversarial(), kr.attacks.FGSM(targeted=True)
    with pytest.raises(ValueError, match="`evaluate_attack` must be an attack.*='pgd'"):
        wrap(evaluate="pgd")
    for name in ("attack", "evaluate"):
        with pytest.raises(ValueError, match="attack` must return perturbed inputs"):
            wrap(**{name: virtual})
        with pytest.raises(ValueError, match="attack` gets the true labels.*targeted=False"):
            wrap(**{name: targeted})
    inputs = keras.Input((4,))
    pair = keras.Model(
        inputs, [layers.Dense(3, name="a")(inputs), layers.Dense(1, name="b")(inputs)]
    )
    two = wrap(net=pair)
    two.compile("sgd", [LOSS, "mse"])
    with pytest.raises(ValueError, match="Expected one output that has a loss"):
        two.fit(X, [Y, Y[:, None].astype("float32")], verbose=0)

    model = compiled(kr.models.SAM(wrap()))
    weights = model.get_weights()
    for method in (model.evaluate, model.test_on_batch):
        with pytest.raises(ValueError, match="`evaluate_attack` needs labels"):
            method(X)
        with pytest.raises(ValueError, match="pass `layer=`.*dtype int"):
            method((9 * X).astype("int32"), Y)
        with pytest.raises(ValueError, match="expected inputs in .*received .* to 9"):
            method(10 * X, Y)
    with pytest.raises(ValueError, match="expected inputs in .*bounds=None"):
        model.fit(X - 1, Y, verbose=0)
    with pytest.raises(ValueError):  # Found by Keras while it traces the step.
        model.evaluate(X, np.ones((40, 2)), verbose=0)
    for a, b in zip(model.get_weights(), weights):
        np.testing.assert_array_equal(a, b)
