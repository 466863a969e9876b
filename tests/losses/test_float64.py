"""Losses and layers of float64 compute in float64 throughout."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_regularize as kr
from tests.contract_cases import CASES
from tests.test_contract import SYMBOLS, inputs_of, make

pytestmark = [
    pytest.mark.everywhere,
    pytest.mark.skipif(
        keras.backend.backend() == "jax", reason="float64 is a flag of the whole process"
    ),
]
LOSSES = [
    key
    for key in SYMBOLS
    if isinstance(SYMBOLS[key], type)
    and issubclass(SYMBOLS[key], keras.losses.Loss)
    and key
    not in {
        "losses.AggregateResponse",  # Computes by a loss of Keras, whose own means are float32 on PyTorch.
        "losses.Perceptual",  # Computes by a model, of a dtype of its own.
        "losses.MultiResolutionSTFT",  # Logarithms of small magnitudes are not smooth enough; its parts are here.
    }
]
HEADS = ["AdaFace", "ArcFace", "CosFace", "CurricularFace", "MagFace"]
H = 1e-6


@pytest.fixture(autouse=True)
def float64():
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx("float32")


def is_smooth(function, x):
    """Rounding of float32 is 1e-7 of the values, the second difference at `H` of smooth functions far less."""
    direction = np.random.default_rng(5).normal(size=x.shape)
    values = [function(ops.convert_to_tensor(x + s * H * direction)) for s in (-1, 0, 1)]
    assert all(keras.backend.standardize_dtype(v.dtype) == "float64" for v in values)
    below, at, above = map(ops.convert_to_numpy, values)
    np.testing.assert_allclose(below - 2 * at + above, 0.0, atol=5e-9 * max(1, np.abs(at).max()))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["none", "sum_over_batch_size", "mean_with_sample_weight"])
@pytest.mark.parametrize("key", LOSSES)
def test_losses(key, reduction, weighted):
    given = inputs_of(key) or CASES.get(key, {}).get("check", dict)()
    y, x = given.get("y_true", np.arange(4) % 3), given.get("y_pred")
    x = np.random.default_rng(3).random((4, 3)) if x is None else np.asarray(x)
    x = x + 0.003 * np.random.default_rng(4).random(x.shape)  # Away from kinks.
    config = {**make(key).get_config(), "reduction": reduction, "dtype": "float64"}
    loss = SYMBOLS[key].from_config(config)
    weight = np.linspace(0.3, 1.0, len(x)) if weighted else None
    is_smooth(lambda z: loss(y, z, sample_weight=weight), x)


@pytest.mark.parametrize("name", HEADS)
def test_heads(name):
    layer = getattr(kr.layers, name)(5, dtype="float64")
    x, labels = np.random.default_rng(0).normal(size=(6, 4)), np.arange(6) % 5
    layer((x, labels), training=True)
    start = [np.array(v.numpy()) for v in layer.variables]

    def outputs(z):
        for variable, value in zip(layer.variables, start):
            variable.assign(value)
        return layer((z, labels), training=True)

    is_smooth(outputs, x)


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "mean", "mean_with_sample_weight"])
def test_means_under_masks_and_weights(reduction):
    logits, ids = np.random.default_rng(0).normal(size=(4, 3)), np.array([0, -1, 2, 1])
    weight = np.array([0.3, 5.0, 0.7, 1.1])
    loss = kr.losses.MaxSup(reduction=reduction, dtype="float64", ignore_class=-1)
    each = kr.losses.MaxSup(reduction="none", dtype="float64", ignore_class=-1)
    values = ops.convert_to_numpy(each(ids, logits))
    for given in (None, weight):
        w = np.where(ids < 0, 0.0, 1.0 if given is None else given)
        count = np.sum(w) if reduction == "mean_with_sample_weight" else 3
        found = ops.convert_to_numpy(loss(ids, logits, sample_weight=given))
        np.testing.assert_allclose(found, np.sum(w * values) / count, rtol=1e-14)
