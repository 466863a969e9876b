"""What the wrapped model's class defines acts under a wrapper as it does without one."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops
from small import LOSS, X, Y

import keras_regularize as kr

WRAPPERS = {
    "plain": kr.models.RegularizedModel,
    "SAM": lambda net: kr.models.SAM(net, rho=0.0),
    "LookSAM": lambda net: kr.models.LookSAM(net, rho=0.0),
    "Flooding over SAM": lambda net: kr.models.Flooding(kr.models.SAM(net, rho=0.0), 0.0),
}


def functional(kind):
    keras.utils.set_random_seed(3)
    inputs = keras.Input((6,))
    return kind(inputs, layers.Dense(3)(layers.Dense(8, "tanh")(inputs)))


class OwnMetrics(keras.Model):
    """Keeps a metric of its own, which its loss updates."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.size = keras.metrics.Mean("size_of_logits")

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        self.size.update_state(ops.mean(ops.abs(y_pred)))
        return super().compute_loss(x, y, y_pred, sample_weight)


class ListedMetrics(OwnMetrics):
    @property
    def metrics(self):
        return (
            [*super().metrics, self.size] if self.size not in super().metrics else super().metrics
        )


class OwnComputeMetrics(keras.Model):
    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        logs = super().compute_metrics(x, y, y_pred, sample_weight)
        return {**logs, "double": 2 * logs["accuracy"]}


class OwnPredictStep(keras.Model):
    def predict_step(self, *arguments):
        found = super().predict_step(*arguments)
        if isinstance(found, tuple):  # On JAX, with the state.
            return ops.softmax(found[0]), found[1]
        return ops.softmax(found)


class OwnTestStep(keras.Model):
    """Reports what `evaluate` of Keras does, and one number more."""

    def test_step(self, *arguments):
        found = super().test_step(*arguments)
        if isinstance(found, tuple):
            return {**found[0], "tested": ops.ones(())}, found[1]
        return {**found, "tested": ops.ones(())}


class OwnCompile(keras.Model):
    def compile(self, optimizer, loss, scale, **kwargs):
        super().compile(optimizer=optimizer, loss=loss, **kwargs)
        self.scale = scale

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        return self.scale * super().compute_loss(x, y, y_pred, sample_weight)


def logs_of(model, **options):
    model.compile(keras.optimizers.SGD(0.1), LOSS, metrics=["accuracy"], **options)
    history = model.fit(X, Y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    evaluated = model.evaluate(X, Y, batch_size=16, verbose=0, return_dict=True)
    return {name: values[-1] for name, values in history.history.items()}, evaluated


@pytest.mark.parametrize("wrap", WRAPPERS)
@pytest.mark.parametrize("kind", [OwnMetrics, ListedMetrics, OwnComputeMetrics, OwnTestStep])
def test_logs_are_those_of_the_model(kind, wrap):
    expected, found = logs_of(functional(kind)), logs_of(WRAPPERS[wrap](functional(kind)))
    for ours, keras_own in zip(found, expected):
        assert set(ours) == set(keras_own)
        for name, value in keras_own.items():
            np.testing.assert_allclose(ours[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("kind", [OwnComputeMetrics, OwnTestStep])
def test_validation_in_fit(kind):
    def validated(model):
        model.compile(keras.optimizers.SGD(0.1), LOSS, metrics=["accuracy"])
        return model.fit(X, Y, validation_data=(X[:8], Y[:8]), epochs=2, verbose=0, shuffle=False)

    expected = validated(functional(kind)).history
    found = validated(kr.models.SAM(functional(kind), rho=0.0)).history
    assert set(found) == set(expected)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_predict_is_that_of_the_model(wrap):
    net = functional(OwnPredictStep)
    model = WRAPPERS[wrap](net)
    np.testing.assert_allclose(
        model.predict(X, verbose=0), net.predict(X, verbose=0), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(np.sum(model.predict(X, verbose=0), axis=1), 1.0, rtol=1e-5)


def test_an_evaluation_under_attack_beside_an_own_test_step():
    net = functional(OwnTestStep)
    attack = kr.attacks.FGSM(0.1)
    model = kr.models.AdversarialTraining(net, attack, evaluate_attack=attack)
    model.compile("sgd", LOSS, metrics=["accuracy"])
    logs = model.evaluate(X, Y, batch_size=16, verbose=0, return_dict=True)
    expected = kr.analysis.robust_accuracy(net, X, Y, attack, batch_size=16)
    assert logs["tested"] == 1.0
    np.testing.assert_allclose(logs["robust_accuracy"], expected, atol=1e-6)


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_arguments_of_an_own_compile_reach_it(wrap):
    expected, found = (
        logs_of(functional(OwnCompile), scale=3.0),
        logs_of(WRAPPERS[wrap](functional(OwnCompile)), scale=3.0),
    )
    np.testing.assert_allclose(found[0]["loss"], expected[0]["loss"], rtol=1e-4)


def test_arguments_that_nothing_knows_are_an_error():
    with pytest.raises(TypeError, match="scale"):
        kr.models.SAM(functional(keras.Model)).compile("sgd", LOSS, scale=3.0)


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_an_own_train_step_is_refused(wrap):
    class OwnTrainStep(keras.Model):
        def train_step(self, *arguments):
            return super().train_step(*arguments)

    with pytest.raises(ValueError, match="train step of its own.*compute_loss"):
        WRAPPERS[wrap](functional(OwnTrainStep))


# Labels that are a dictionary


class ReadsLabel(keras.Model):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        return ops.mean(ops.square(y["label"] - y_pred) * y["scale"])


def targets():
    rng = np.random.default_rng(0)
    return rng.normal(size=(48, 3)).astype("float32"), rng.uniform(size=(48, 1)).astype("float32")


def test_an_own_loss_gets_the_dictionary_it_reads():
    label, scale = targets()
    losses = []
    for wrap in (lambda net: net, lambda net: kr.models.SAM(net, rho=0.0)):
        model = wrap(functional(ReadsLabel))
        model.compile(keras.optimizers.SGD(0.1))
        y = {"label": label, "scale": scale}
        losses.append(model.fit(X, y, epochs=2, verbose=0, shuffle=False).history["loss"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


class Named(keras.Model):
    """A subclassed model with a dictionary of outputs."""

    def __init__(self):
        super().__init__()
        keras.utils.set_random_seed(3)
        self.dense, self.other = layers.Dense(3), layers.Dense(1)

    def call(self, x):
        return {"label": self.dense(x), "scale": self.other(x)}


def named_functional():
    keras.utils.set_random_seed(3)
    x = keras.Input((6,))
    return keras.Model(x, {"label": layers.Dense(3)(x), "scale": layers.Dense(1)(x)})


def listed_functional():
    keras.utils.set_random_seed(3)
    x = keras.Input((6,))
    return keras.Model(x, [layers.Dense(3, name="label")(x), layers.Dense(1, name="scale")(x)])


@pytest.mark.parametrize("loss", ["one", "each"])
@pytest.mark.parametrize("make", [Named, named_functional, listed_functional])
def test_an_output_called_label_takes_its_labels(make, loss):
    label, scale = targets()
    given = "mse" if loss == "one" else {"label": "mse", "scale": "mae"}
    losses = []
    for wrap in (lambda net: net, lambda net: kr.models.SAM(net, rho=0.0)):
        model = wrap(make())
        model.compile(keras.optimizers.SGD(0.1), given)
        y = {"label": label, "scale": scale}
        losses.append(model.fit(X, y, epochs=2, verbose=0, shuffle=False).history["loss"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


@pytest.mark.parametrize("kind", ["functional", "subclassed"])
def test_a_layer_called_label_is_no_output_of_that_name(kind):
    if kind == "functional":
        x = keras.Input((6,))
        net = keras.Model(x, layers.Dense(3, name="label")(x))
    else:

        class Net(keras.Model):
            def __init__(self):
                super().__init__()
                self.label = layers.Dense(3, name="label")

            def call(self, x):
                return self.label(x)

        net = Net()
    model = kr.models.GroupDRO(net, 2)
    model.compile("sgd", LOSS)
    model.fit(X, {"label": Y, "group": np.arange(48) % 2}, verbose=0)
    assert not np.allclose(ops.convert_to_numpy(model.group_weights.value), 0.5)


# What is asked of the wrapper is asked of the model inside


def test_layers_and_symbolic_tensors_are_those_of_the_model():
    net = functional(keras.Model)
    model = kr.models.Flooding(kr.models.SAM(net), 0.1)
    assert model.get_layer(net.layers[1].name) is net.layers[1]
    assert model.get_layer(index=2) is net.layers[2]
    assert model.inputs is net.inputs and model.outputs is net.outputs
    features = keras.Model(model.inputs[0], model.get_layer(index=1).output)
    assert features(X).shape == (48, 8)
    with pytest.raises(ValueError, match="No such layer"):
        model.get_layer("nothing")


def test_weights_of_the_model_alone_name_the_way(tmp_path):
    net = functional(keras.Model)
    net.save_weights(tmp_path / "net.weights.h5")
    with warnings.catch_warnings(), pytest.raises(ValueError, match=r"\.model\.load_weights"):
        warnings.simplefilter("ignore")  # Keras' own.
        kr.models.SAM(functional(keras.Model)).load_weights(tmp_path / "net.weights.h5")


def test_unknown_sizes_stay_apart():
    # Two sizes that are both unknown: a trace of the wrapper as one call takes them for the same.
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    padding = keras.Input((None,), dtype="int32", name="padding")
    x = layers.Embedding(11, 4)(tokens) + layers.Embedding(2, 4)(padding)
    x = layers.MultiHeadAttention(1, 4)(x, x, attention_mask=padding[:, None, :])
    net = keras.Model({"tokens": tokens, "padding": padding}, layers.Dense(3)(x[:, 0, :]))
    for model in (kr.models.SAM(net), kr.models.LookSAM(kr.models.Flooding(net, 0.0))):
        found = model({name: keras.Input((None,), name=name) for name in ("tokens", "padding")})
        assert found.shape == (None, 3)
        model.compile("sgd", LOSS)
        ids = np.random.default_rng(0).integers(1, 11, size=(8, 5))
        x = {"tokens": ids, "padding": np.ones_like(ids)}
        model.fit(x, np.arange(8) % 3, verbose=0)
        assert model.predict({k: v[:, :3] for k, v in x.items()}, verbose=0).shape == (8, 3)
