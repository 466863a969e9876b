"""Configs read from the signature: an attribute has the name of its constructor argument."""

import inspect
import json

import keras
import numpy as np
import pytest

import keras_regularize as kr
from keras_regularize.configuration import Configured
from keras_regularize.losses.loss import Loss
from tests import contract_cases
from tests.test_contract import SYMBOLS, config_of

CONFIGURED = [
    key
    for key, symbol in SYMBOLS.items()
    if isinstance(symbol, type) and issubclass(symbol, Configured)
]

# Arguments that are no attribute of that name: it is one of Keras' models, or of `RegularizedModel`.
ELSEWHERE = {
    "models.CoTeaching": {"model_a"},  # `model`
    "models.Distillation": {"loss", "layers"},
    "models.ELRPlus": {"model_a"},
    "models.FunctionalEntropyRegularization": {"inputs"},
    "models.RepulsionGAN": {"reference_weights"},
    # Those of the attack that the model makes.
    "models.RobustSelfSupervised": {"gamma", "step_size", "layer"},
    "models.VAT": {"epsilon", "finite_difference", "iterations", "layer", "seed"},
}

# What is stored differs from the attributes.
OWN_CONFIG = {
    "layers.WeightCompander",  # A wrapper frozen after construction stays frozen.
    # Attributes that models of Keras have: `loss`, `layers`, `inputs`.
    "models.Distillation",
    "models.FactoredSphericalClassifier",
    "models.FreeAdversarialTraining",
    "models.FunctionalEntropyRegularization",
    "models.InputGradientPenalty",
    # Of the attack that the model makes.
    "models.RobustSelfSupervised",
    "models.VAT",
    "models.RegularizedModel",  # Two networks take the place of its `model`.
    "models.RepulsionGAN",  # Its references are in the file of the weights.
    # With the weights of a model that is not trained.
    "losses.Perceptual",
    "metrics.FrechetDistance",
}


def make(key):
    symbol, case = SYMBOLS[key], contract_cases.CASES.get(key, {})
    if not issubclass(symbol, kr.models.RegularizedModel):
        return symbol(**config_of(key))
    network = case.get("check", dict)().get("network", contract_cases.teacher)
    return symbol(network(), **case.get("config", dict)())


def arguments(cls):
    parameters = inspect.signature(cls).parameters.values()
    return {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


def saved_and_loaded(instance):
    text = json.dumps(keras.saving.serialize_keras_object(instance))
    custom = {type(instance).__name__: type(instance)}
    return keras.saving.deserialize_keras_object(json.loads(text), custom_objects=custom)


@pytest.mark.parametrize("key", CONFIGURED)
def test_every_argument_is_an_attribute(key):
    instance, names = make(key), arguments(SYMBOLS[key])
    config = instance.get_config()
    json.dumps(config)
    assert names <= set(config)
    for name in names - ELSEWHERE.get(key, set()):
        assert hasattr(instance, name) or hasattr(instance, f"initial_{name}"), name


@pytest.mark.parametrize("key", CONFIGURED)
def test_no_class_writes_a_config_that_can_be_read(key):
    assert ("get_config" in vars(SYMBOLS[key])) == (key in OWN_CONFIG)


class Tempered(Loss):
    def __init__(self, temperature, power=1, **kwargs):
        super().__init__(**kwargs)
        self.temperature = temperature
        self.power = power

    def call(self, y_true, y_pred):
        return keras.ops.mean(keras.ops.abs(y_true - y_pred), axis=-1) / self.temperature


class Alone(Loss):
    def __init__(self, temperature=2.0):
        super().__init__(name="alone")
        self.temperature = temperature


class Suppressed(kr.losses.MaxSup):
    def __init__(self, weights, **kwargs):
        super().__init__(**kwargs)
        self.weights = weights


class Scaled(kr.regularizers.SRIP):
    def __init__(self, scale=1.0, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale


class Written(kr.regularizers.SRIP):
    """With a config in Keras' manner, of an argument kept elsewhere."""

    def __init__(self, scale, factor=0.5):
        super().__init__(factor)
        self._scale = scale

    def get_config(self):
        return {**super().get_config(), "scale": self._scale}


class Below(Written):
    def __init__(self, more, **kwargs):
        super().__init__(**kwargs)
        self.more = more


class Headed(kr.layers.CosFace):
    def __init__(self, units, extra=None, **kwargs):
        super().__init__(units, **kwargs)
        self.extra = extra


class Forgetful(kr.regularizers.SRIP):
    def __init__(self, scale, **kwargs):
        super().__init__(**kwargs)


LOSS = {"name": None, "reduction": "sum_over_batch_size", "dtype": "float32"}


@pytest.mark.parametrize(
    "instance, config",
    [
        (Tempered(3.0), {**LOSS, "name": "tempered", "temperature": 3.0, "power": 1}),
        (
            Tempered(3.0, 2, name="t", reduction=None, dtype="float64"),
            {"name": "t", "reduction": None, "dtype": "float64", "temperature": 3.0, "power": 2},
        ),
        (Alone(), {"temperature": 2.0}),
        (
            Suppressed([1.0, 2.0], factor=0.3),
            {**LOSS, "name": "max_sup", "ignore_class": None, "factor": 0.3, "weights": [1.0, 2.0]},
        ),
        (Scaled(2.0, factor=0.3), {"factor": 0.3, "scale": 2.0}),
        (Written(2.0), {"factor": 0.5, "scale": 2.0}),
        (Below(1.0, scale=2.0), {"factor": 0.5, "scale": 2.0, "more": 1.0}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_subclass_has_its_config_without_writing_one(instance, config):
    assert instance.get_config() == config
    restored = saved_and_loaded(instance)
    assert type(restored) is type(instance)
    assert restored.get_config() == config


def test_a_layer_keeps_what_keras_keeps():
    layer = Headed(
        3, extra="e", scale=4.0, margin=[0.1, 0.2, 0.3], name="head", dtype="mixed_float16"
    )
    config = layer.get_config()
    assert config["extra"] == "e" and config["margin"] == [0.1, 0.2, 0.3]
    restored = saved_and_loaded(layer)
    assert restored.get_config() == config
    assert restored.name == "head" and restored.dtype_policy.name == "mixed_float16"


def test_an_argument_that_is_kept_nowhere_is_named():
    with pytest.raises(
        AttributeError, match="The config of `Forgetful` needs its argument `scale`"
    ):
        Forgetful(1.0).get_config()


def test_numpy_values_become_plain():
    config = Tempered(np.float32(0.5), np.int64(3)).get_config()
    assert type(config["temperature"]) is float and type(config["power"]) is int
    assert Suppressed(np.array([[1.0], [2.0]])).get_config()["weights"] == [[1.0], [2.0]]
    assert kr.constraints.Binary(axis=[0, 1]).get_config() == {"axis": (0, 1)}


def schedule():
    return keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)


@pytest.mark.parametrize(
    "instance",
    [
        kr.losses.SpectralRisk(kr.losses.MaxSup(0.3)),
        kr.losses.AggregateResponse(loss=keras.losses.Huber(0.3)),
        kr.losses.AnyLoss(contract_cases.itself),
        kr.regularizers.CauchySchwarz(contract_cases.cube, contract_cases.itself),
        kr.optimizers.Proximal(keras.optimizers.Adam(schedule()), schedule()),
        kr.optimizers.LAWN(kr.optimizers.LOBSTER("sgd", schedule()), 3),
        kr.layers.WeightConditioning(
            keras.layers.Dense(2, kernel_regularizer=kr.regularizers.SRIP(0.3))
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_nested_objects_are_made_again(instance):
    config = json.loads(json.dumps(instance.get_config()))
    assert config == saved_and_loaded(instance).get_config()
    assert config == type(instance).from_config(instance.get_config()).get_config()
    nested = [value for value in config.values() if isinstance(value, dict)]
    assert any("class_name" in value for value in nested)


def test_a_wrapper_saves_the_optimizer_as_it_was_given():
    inner = keras.optimizers.SGD(0.1, loss_scale_factor=8.0)

    class Half(kr.optimizers.Masked):
        def __init__(self, optimizer, share=0.5, **kwargs):
            super().__init__(optimizer, **kwargs)
            self.share = share

    config = Half(inner).get_config()
    assert set(config) == {"optimizer", "name", "share"}
    assert config["optimizer"]["config"]["loss_scale_factor"] == 8.0
