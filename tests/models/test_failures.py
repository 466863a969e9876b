"""Every train step where training goes wrong or to its edges: nothing is poisoned, nothing is lost."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from model_table import METHODS, VARIANTS, wrap

BACKEND = keras.backend.backend()
RNG = np.random.RandomState(0)
X, Y = RNG.rand(16, 4).astype("float32"), RNG.randint(0, 3, 16)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
PENALTIES = {
    "ART",
    "DataEmphasizedELBo",
    "SRL",
    "SpaceFolding",
    "WeightPenalty",
}  # Whose gradients are not those of the outputs.
NAMES = [name for name in METHODS if name not in VARIANTS]
NESTS = [["SAM", "TRADES"], ["exact GR", "WeightPenalty", "FGSM training"]]


def network(*last, middle=()):
    keras.utils.set_random_seed(3)
    dense = layers.Dense(5, "tanh", kernel_regularizer=None if last else "l2")
    return keras.Sequential([keras.Input((4,)), dense, *middle, layers.Dense(3), *last])


def compiled(names, net, optimizer=None, **options):
    """Eagerly unless told, which is faster for so few steps."""
    model = wrap([names] if isinstance(names, str) else names, net)
    optimizer = keras.optimizers.SGD(0.1) if optimizer is None else optimizer
    model.compile(optimizer, LOSS, **{"run_eagerly": True, **options})
    return model


def values(variables):
    return [ops.convert_to_numpy(v) for v in variables]


def floating(model):
    return values(
        v
        for v in model.variables
        if keras.backend.is_float_dtype(v.dtype) and "metric" not in v.path
    )


def assert_finite(model):
    assert all(np.isfinite(v).all() for v in floating(model))


def differ(a, b):
    return any((v != w).any() for v, w in zip(a, b, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_zero_gradient_moves_nothing(name):
    net = network(layers.Rescaling(0.0))
    model, before = compiled(name, net), net.get_weights()
    losses = [model.train_on_batch(X, Y) for _ in range(2)]
    assert np.isfinite(losses).all()
    assert_finite(model)
    if name not in PENALTIES:  # Whose gradient is not that of the outputs.
        np.testing.assert_equal(net.get_weights(), before)


@pytest.mark.parametrize("name", NAMES)
def test_an_overflow_costs_a_step_and_nothing_else(name):
    keras.config.set_dtype_policy("mixed_float16")
    net = network()
    inner = keras.optimizers.SGD(0.01, momentum=0.9)
    optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0**60)
    model = compiled(name, net, optimizer)
    before = net.get_weights()
    infinite = np.ones(16, "float32")
    infinite[3] = np.inf
    # In the backward pass, then in the loss itself.
    for scale, weights in ((2.0**60, np.ones(16, "float32")), (64.0, infinite)):
        if optimizer.built:
            optimizer.dynamic_scale.assign(scale)
        model.train_on_batch(X, Y, sample_weight=weights)
        halved = scale / 2 ** METHODS[name].updates
        assert ops.convert_to_numpy(optimizer.dynamic_scale) == halved
        np.testing.assert_equal(net.get_weights(), before)
        assert_finite(model)
    model.reset_metrics()
    optimizer.dynamic_scale.assign(64.0)
    losses = [model.train_on_batch(X, Y) for _ in range(2)]
    assert np.isfinite(losses).all() and differ(net.get_weights(), before)
    assert_finite(model)


@pytest.mark.parametrize("name", NAMES)
def test_missing_labels_are_an_error_that_leaves_the_weights(name):
    net = network()
    # Compiled: on JAX an error inside the traced step would lose the weights.
    model, before = compiled(name, net, run_eagerly=False), net.get_weights()
    with pytest.raises(ValueError, match="needs labels `y`" if METHODS[name].labels else None):
        model.fit(X, verbose=0)
    np.testing.assert_equal(net.get_weights(), before)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_one_and_a_smaller_last_batch(name):
    # On TensorFlow `fit` compiles a step for batches of unknown size.
    options = {"run_eagerly": BACKEND != "tensorflow", "jit_compile": False}
    nets = network(), network()
    compiled(name, nets[0], **options).fit(X[:5], Y[:5], batch_size=4, shuffle=False, verbose=0)
    model = compiled(name, nets[1])
    for rows in (slice(0, 4), slice(4, 5)):
        model.train_on_batch(X[rows], Y[rows])
    assert_finite(model)
    for a, b in zip(nets[0].get_weights(), nets[1].get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_resumed_training_is_uninterrupted_training(name, tmp_path):
    def fresh():
        net = network(middle=[layers.BatchNormalization(), layers.Dropout(0.3, seed=1)])
        return compiled(name, net, keras.optimizers.Adam(0.01))

    def train(model):
        return model.fit(X, Y, batch_size=8, shuffle=False, verbose=0).history["loss"]

    whole, part = fresh(), fresh()
    train(whole), train(part)
    part.save(tmp_path / "model.keras")
    resumed = keras.models.load_model(tmp_path / "model.keras")
    assert train(resumed) == train(whole)
    np.testing.assert_equal(values(resumed.variables), values(whole.variables))
    np.testing.assert_equal(values(resumed.optimizer.variables), values(whole.optimizer.variables))


class Unused(keras.Model):
    """A frozen layer, and a trainable one that takes no part."""

    def __init__(self):
        frozen, used = layers.Dense(5, "tanh", trainable=False), layers.Dense(3)
        inputs = keras.Input((4,))
        super().__init__(inputs, used(frozen(inputs)))
        self.frozen, self.used, self.unused = frozen, used, layers.Dense(2)
        self.unused.build((None, 4))


@pytest.mark.parametrize("name", NAMES)
def test_frozen_and_unused_layers_stay(name):
    keras.utils.set_random_seed(3)
    net = Unused()
    still = net.frozen.get_weights() + ([] if name in PENALTIES else net.unused.get_weights())
    before = net.used.get_weights()
    model = compiled(name, net, keras.optimizers.Adam(0.01))
    for _ in range(2):
        model.train_on_batch(X, Y)
    np.testing.assert_equal(
        (net.frozen.get_weights() + net.unused.get_weights())[: len(still)], still
    )
    assert differ(net.used.get_weights(), before)
    assert_finite(model)


OPTIMIZERS = {
    "accumulation": lambda: keras.optimizers.SGD(0.1, gradient_accumulation_steps=2),
    "clipnorm": lambda: keras.optimizers.SGD(0.1, clipnorm=0.01),
    "global_clipnorm": lambda: keras.optimizers.SGD(0.1, momentum=0.9, global_clipnorm=0.01),
    "clipvalue": lambda: keras.optimizers.SGD(0.1, clipvalue=0.01),
    "ema": lambda: keras.optimizers.SGD(
        0.1, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=1
    ),
    "decay": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
}


@pytest.mark.parametrize("names", NESTS, ids="-".join)
@pytest.mark.parametrize("feature", OPTIMIZERS)
def test_optimizer_features_get_the_gradient_of_the_method(feature, names):
    batches = [(X[:8], Y[:8]), (X[8:], Y[8:])][: 2 if feature == "accumulation" else 1]
    gradients = []
    for batch in batches:
        net = network()
        start = net.get_weights()
        compiled(names, net, keras.optimizers.SGD(1.0)).train_on_batch(*batch)
        gradients.append([a - b for a, b in zip(start, net.get_weights())])
    net, twin, optimizer = network(), network(), OPTIMIZERS[feature]()
    model = compiled(names, net, OPTIMIZERS[feature]())
    for batch, gradient in zip(batches, gradients):
        model.train_on_batch(*batch)
        optimizer.apply([ops.convert_to_tensor(g) for g in gradient], twin.trainable_variables)
    for a, b in zip(net.get_weights(), twin.get_weights()):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert differ(net.get_weights(), start)
