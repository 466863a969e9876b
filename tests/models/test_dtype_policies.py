"""Every model trains, is saved and goes on under every dtype policy of Keras."""

import keras
import numpy as np
import pytest
from model_table import METHODS

import keras_regularize as kr
from keras_regularize.testing import models as contract
from tests.contract_cases import CASES
from tests.test_contract import SYMBOLS

# The contract has mixed_float16. JAX has float64 only where its own flag asks for it, for the whole process.
POLICIES = ("float16", "bfloat16")
if keras.backend.backend() != "jax":
    POLICIES = (*POLICIES, "float64")
WRAPPERS = [
    key
    for key in SYMBOLS
    if isinstance(SYMBOLS[key], type) and issubclass(SYMBOLS[key], kr.models.RegularizedModel)
]


def network():
    """Without penalties, which TensorFlow cannot add to a loss of another dtype, in plain Keras either."""
    stack = [keras.layers.Dense(5, "tanh"), keras.layers.BatchNormalization()]
    return keras.Sequential([keras.Input((4,)), *stack, keras.layers.Dense(3)])


def wrapper_of(key):
    """The example of a model's contract: `(wrapper, inputs, labels, loss)` under the policy in force."""
    options = {"network": network, **CASES.get(key, {}).get("check", dict)()}
    case = contract._case(None, **{k: options.get(k) for k in ("network", "x", "y", "loss")})
    arguments = CASES.get(key, {}).get("config", dict)()
    keras.utils.set_random_seed(7)
    return SYMBOLS[key](case.network(), **arguments), case.x, case.y, case.loss


def fit(model, x, y):
    history = model.fit(x, y, batch_size=8, epochs=2, verbose=0, shuffle=False).history
    assert all(np.isfinite(values).all() for values in history.values()), history
    for variable in model.variables:
        assert np.isfinite(np.asarray(variable.numpy(), "float64")).all(), variable.path


# The way in which a few steps of a tiny model take the least time.
STEPS = {} if keras.backend.backend() == "jax" else {"run_eagerly": True}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("key", WRAPPERS)
def test_trains_is_saved_and_goes_on(key, policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    model, x, y, loss = wrapper_of(key)
    # Small steps that float16 can take.
    model.compile(keras.optimizers.SGD(0.01), loss, **STEPS)
    fit(model, x, y)
    model.save(tmp_path / "m.keras")
    restored = keras.models.load_model(tmp_path / "m.keras")
    for a, b in zip(restored.weights, model.weights, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=b.path)
    fit(restored, x, y)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", METHODS)
def test_takes_steps_from_labels_with_weights_and_without_labels(name, policy):
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(7)
    model = METHODS[name].wrap(network())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01), loss, run_eagerly=True)
    rng = np.random.default_rng(3)
    x, y = rng.random((12, 4), dtype="float32"), rng.integers(0, 3, 12)
    model.train_on_batch(x, y)
    values = [model.train_on_batch(x, y, rng.random(12))]
    if model.semi_supervised:
        values.append(model.train_on_batch(x, np.where(np.arange(12) % 3 == 0, y, -1)))
    assert np.isfinite(np.asarray(values, "float64")).all()
    for variable in model.variables:
        assert np.isfinite(np.asarray(variable.numpy(), "float64")).all(), variable.path
