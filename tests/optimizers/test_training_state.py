"""Every wrapper: gradients of embeddings, dtype policies, overflows of loss scaling, and loading."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_regularize import optimizers as kr
from keras_regularize.testing._common import to_numpy

SGD, Adam = keras.optimizers.SGD, keras.optimizers.Adam
WRAPPERS = {
    "AdaptiveGradientClipping": lambda inner: kr.AdaptiveGradientClipping(inner, 0.05),
    "DecoupledWeightDecay": lambda inner: kr.DecoupledWeightDecay(inner, 0.05),
    "IrrelevantWeightDecay": lambda inner: kr.IrrelevantWeightDecay(inner, 0.05, 0.1),
    "LAWN": lambda inner: kr.LAWN(inner, 1),
    "LOBSTER": lambda inner: kr.LOBSTER(inner, 0.05),
    "Masked": lambda inner: kr.Masked(inner),
    "Proximal": lambda inner: kr.Proximal(inner, 0.05),
}
ALL = pytest.mark.parametrize("make", WRAPPERS.values(), ids=WRAPPERS)
IDS = np.array([[1, 1, 2, 3, 1], [0, 0, 0, 5, 2]])
Y = np.random.default_rng(0).normal(size=(2, 2)).astype("float32")


class Lookup(layers.Layer):
    """An embedding as a product with one-hot rows, whose gradient is dense on every backend."""

    def build(self, shape):
        self.embeddings = self.add_weight(shape=(7, 3), name="embeddings")

    def call(self, x):
        return ops.one_hot(x, 7, dtype=self.compute_dtype) @ self.embeddings


def with_table(layer):
    keras.utils.set_random_seed(0)
    parts = [keras.Input((5,), dtype="int32"), layer, layers.Flatten(), layers.Dense(2)]
    return keras.Sequential(parts)


@ALL
@pytest.mark.parametrize("inner", [lambda: SGD(0.1, momentum=0.5), lambda: Adam(0.1)])
@pytest.mark.parametrize("scaled", [False, True])
def test_rows_of_embeddings_train_like_dense_gradients(make, inner, scaled):
    nets = [with_table(layers.Embedding(7, 3)), with_table(Lookup())]
    nets[1].set_weights(nets[0].get_weights())
    for net in nets:
        optimizer = make(inner())
        if scaled:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        net.compile(optimizer, "mse")
        net.fit(np.tile(IDS, (3, 1)), np.tile(Y, (3, 1)), batch_size=2, shuffle=False, verbose=0)
    for one, other in zip(*(net.get_weights() for net in nets)):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def small(policy):
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((3,)), layers.Dense(4, "tanh"), layers.Dense(2)])


@ALL
@pytest.mark.parametrize("policy", ["bfloat16", "float64", "mixed_float16", "mixed_bfloat16"])
def test_dtype_policies_and_loading(make, policy, tmp_path):
    if policy == "float64" and keras.backend.backend() == "jax":
        return  # Without 64 bits.
    x = np.random.default_rng(2).normal(size=(8, 3))
    y = np.random.default_rng(3).normal(size=(8, 2))
    if policy == "float64":
        keras.config.set_floatx("float64")
    net = small(policy)
    net.compile(make(Adam(0.01)), "mse")
    net.fit(x, y, batch_size=4, verbose=0, shuffle=False)
    assert all(np.isfinite(to_numpy(w)).all() for w in net.weights)
    net.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert len(loaded.optimizer.variables) == len(net.optimizer.variables)
    for one, other in zip(net.optimizer.variables, loaded.optimizer.variables):
        np.testing.assert_array_equal(to_numpy(one), to_numpy(other), err_msg=one.path)
    for each in (net, loaded):
        each.fit(x, y, batch_size=4, verbose=0, shuffle=False)
    for one, other in zip(net.weights, loaded.weights):
        np.testing.assert_allclose(to_numpy(one), to_numpy(other), rtol=1e-5, atol=1e-6)


@ALL
def test_an_overflow_leaves_weights_and_state_as_they_are(make):
    net = small("mixed_float16")
    net.compile(make(Adam(0.01)), "mse")
    assert isinstance(net.optimizer, keras.optimizers.LossScaleOptimizer)
    x, y = np.ones((4, 3)), np.ones((4, 2))
    for _ in range(2):
        net.train_on_batch(x, y)

    def state():
        variables = [*net.weights, *net.optimizer.inner_optimizer.variables]
        return [(v.path, to_numpy(v)) for v in variables]

    before = state()
    scale = to_numpy(net.optimizer.dynamic_scale)
    net.train_on_batch(1e30 * x, 1e30 * y)
    assert to_numpy(net.optimizer.dynamic_scale) == scale / 2
    for (path, old), (_, new) in zip(before, state()):
        np.testing.assert_array_equal(old, new, err_msg=path)
    net.train_on_batch(x, y)
    assert all(np.isfinite(value).all() for _, value in state())
