"""Taps: models of any kind, threads that run a layer at once, nothing left behind, compiled steps."""

import inspect
import threading

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_regularize as kr
from keras_regularize.autodiff.taps import tap
from tests.helpers import array

pytestmark = pytest.mark.everywhere


class Scale(kr.layers.Reparameterized):
    """A wrapper whose `call` is an attribute of its own already."""


class Custom(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Dense(3, name="tapped")

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return 2.0 * self.inner(x)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = layers.Dense(3, name="tapped")

    def call(self, x):
        return self.hidden(x)


def functional(layer):
    x = keras.Input((2,))
    return keras.Model(x, layer(x))


def quantized():
    """Keras runs another method of a quantized layer."""
    model = functional(layers.Dense(3, name="tapped"))
    model.layers[-1].quantize("int8")
    return model


MODELS = {
    "functional": lambda: functional(layers.Dense(3, name="tapped")),
    "sequential": lambda: keras.Sequential([layers.Dense(3, name="tapped")]),
    "subclassed": Subclassed,
    "custom layer": lambda: keras.Sequential([Custom()]),
    "nested": lambda: functional(functional(layers.Dense(3, name="tapped"))),
    "quantized": quantized,
    "reparameterized": lambda: functional(Scale(layers.Dense(3), name="tapped")),
}


@pytest.mark.parametrize("kind", MODELS)
def test_what_a_layer_gives_out_is_changed_and_nothing_stays(kind, tmp_path):
    model = MODELS[kind]()
    x = np.ones((4, 2), "float32")
    plain = array(model(x))
    layer = kr.attacks.points.find_layer(model, "tapped")
    before, signature = dict(vars(layer)), inspect.signature(layer.call)
    factor = 2.0 if kind == "custom layer" else 1.0
    with tap(layer, lambda outputs, inputs, **_: outputs + 1.0):
        np.testing.assert_allclose(array(model(x)), plain + factor, rtol=1e-6)
        assert inspect.signature(layer.call) == signature
        model.save(tmp_path / "model.keras") if kind == "functional" else None
    assert vars(layer) == before
    np.testing.assert_array_equal(array(model(x)), plain)
    if kind == "functional":
        loaded = keras.models.load_model(tmp_path / "model.keras")
        np.testing.assert_allclose(array(loaded(x)), plain, rtol=1e-6)


def test_an_error_inside_leaves_nothing_behind():
    layer = layers.Identity()
    with pytest.raises(KeyError):
        with tap(layer, lambda outputs, *_: outputs + 1.0):
            raise KeyError
    assert "call" not in vars(layer)
    np.testing.assert_array_equal(array(layer(ops.zeros(2))), [0.0, 0.0])


def test_threads_see_their_own_taps_only():
    """Two that are both inside, left in the order of entering, and a third without a tap."""
    layer, meet, results = layers.Identity(), threading.Barrier(3, timeout=60), {}

    def run(name, shift, wait_to_leave):
        with tap(layer, lambda outputs, *_: outputs + shift):
            meet.wait()
            results[name] = float(array(layer(ops.zeros(()))))
            meet.wait()
            if wait_to_leave:
                left.wait(60)
                results[name, "alone"] = float(array(layer(ops.zeros(()))))
        left.set()

    left = threading.Event()
    threads = [
        threading.Thread(target=run, args=("first", 1.0, False)),
        threading.Thread(target=run, args=("second", 10.0, True)),
    ]
    for thread in threads:
        thread.start()
    meet.wait()
    results["none"] = float(array(layer(ops.zeros(()))))
    meet.wait()
    for thread in threads:
        thread.join()
    assert results == {"first": 1.0, "second": 10.0, ("second", "alone"): 10.0, "none": 0.0}
    assert "call" not in vars(layer)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_compiled_step_attacks_at_a_layer(compiled):
    """Twice, so that a compiled step is reused after the tap of its first trace is gone."""
    keras.utils.set_random_seed(2)
    net = keras.Sequential([keras.Input((4,)), layers.Dense(5, "tanh", name="h"), layers.Dense(3)])
    model = kr.models.AdversarialTraining(net, kr.attacks.FGSM(0.5, bounds=None, layer="h"), 0.5)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # On torch compiled by hand only: it takes a minute, in graphs broken by what Keras does.
    compiled = compiled and keras.backend.backend() != "torch"
    modes = {"jit_compile": True} if compiled else {"run_eagerly": True}
    model.compile(keras.optimizers.SGD(0.5), loss, **modes)
    rng = np.random.default_rng(0)
    x, y = rng.random((8, 4), "float32"), rng.integers(0, 3, 8)
    start = net.get_weights()
    for _ in range(2):
        model.train_on_batch(x, y)

    w1, b1, w2, b2 = (np.asarray(w, "float64") for w in start)
    for _ in range(2):
        h = np.tanh(x @ w1 + b1)

        def slope(hidden, w2=w2, b2=b2):
            z = hidden @ w2 + b2
            p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
            return p - np.eye(3)[y]

        moved = h + 0.5 * np.sign(slope(h) @ w2.T)
        updates = [np.zeros_like(w) for w in (w1, b1, w2, b2)]
        for hidden in (h, moved):
            s = 0.5 * slope(hidden) / 8
            t = (s @ w2.T) * (1 - h**2)
            for u, g in zip(updates, (x.T @ t, t.sum(0), hidden.T @ s, s.sum(0))):
                u += g
        w1, b1, w2, b2 = (w - 0.5 * u for w, u in zip((w1, b1, w2, b2), updates))
    for found, expected in zip(net.get_weights(), (w1, b1, w2, b2)):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert "call" not in vars(net.layers[0])


def test_a_perturbation_must_have_the_shapes_of_the_output():
    layer = layers.Identity(name="hid")
    with kr.attacks.points.perturbed_output(layer, [ops.ones((1, 2))]):
        with pytest.raises(ValueError, match="output of `hid` must have its shapes"):
            layer(ops.ones((3, 2)))


def test_only_floating_outputs_of_a_layer_are_perturbed():
    class Both(layers.Layer):
        def call(self, x):
            return x, ops.cast(x > 0.5, "int32")

    x = keras.Input((3,))
    value, flag = Both(name="both")(x)
    net = keras.Model(x, layers.Dense(2)(value * ops.cast(flag, "float32")))
    inputs = np.random.default_rng(0).uniform(size=(4, 3)).astype("float32")
    found = kr.attacks.FGSM(0.25, bounds=None, layer="both")(net, inputs, np.array([0, 1, 0, 1]))
    assert len(found) == 1
    moved = (array(found[0]) != 0)[inputs > 0.5]
    np.testing.assert_allclose(np.abs(array(found[0]))[inputs > 0.5][moved], 0.25, rtol=1e-6)
