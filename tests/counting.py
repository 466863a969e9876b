"""Counts how often a layer is really executed, forward and backward, eagerly or compiled."""

from typing import NamedTuple

import keras
from keras import ops


class Passes(NamedTuple):
    """What ran: forward and backward passes, and gradients of the counting layer's own weight."""

    forwards: int
    backwards: int
    weight_gradients: int


class CountingLayer(keras.layers.Layer):
    """Identity that counts the passes through it, exactly, also inside `jit` and loops.

    Put it behind a layer with weights: a gradient with respect to weights then runs one backward
    pass through it and one for its own weight (whose gradient is exactly 0, so it never moves), a
    gradient with respect to inputs only the former. A second derivative (`hvp`) counts two backward
    passes. Use it in built models, and read the numbers through `passes` or `count`.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._ticks = _Ticks()
        if keras.backend.backend() == "tensorflow":
            self.supports_jit = False  # XLA cannot call back into Python there.

    def build(self, input_shape):
        self.weight = self.add_weight(shape=(), initializer="zeros", name="counted")

    def call(self, x):
        weight = _counted(
            ops.cast(self.weight, x.dtype), None, self._ticks.recorder("weight_gradients")
        )
        x = _counted(x, self._ticks.recorder("forwards"), self._ticks.recorder("backwards"))
        return x + 0.0 * weight

    @property
    def passes(self) -> Passes:
        return self._ticks.passes()


def counting_model(inputs=4, classes=3, last=None):
    """`(model, counter)`: a small classifier with a counting layer in the middle; gives logits."""
    counter = CountingLayer()
    layers = [keras.Input((inputs,)), keras.layers.Dense(5, "tanh"), counter]
    return keras.Sequential([*layers, keras.layers.Dense(classes, last)]), counter


def count(counter, function):
    """The `Passes` through a counting layer while `function()` runs."""
    before = counter.passes
    function()
    return Passes(*(after - start for after, start in zip(counter.passes, before)))


class _Ticks:
    # A class of its own, which Keras does not track; appending is safe from callback threads.
    def __init__(self):
        self._seen = {name: [] for name in Passes._fields}

    def recorder(self, name):
        return lambda: self._seen[name].append(None)

    def passes(self):
        if keras.backend.backend() == "jax":
            import jax

            jax.effects_barrier()
        return Passes(**{name: len(ticks) for name, ticks in self._seen.items()})


def _counted(x, on_forward, on_backward, order=2):
    @ops.custom_gradient
    def identity(x):
        if on_forward is not None:
            _run(on_forward, x)

        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            _run(on_backward, upstream)
            return upstream

        # JAX applies a custom gradient once; the second derivative sees what stands inside.
        inside = keras.backend.backend() == "jax" and order > 1
        return (_counted(x, None, on_backward, order - 1) if inside else x * 1), gradient

    return identity(x)


def _run(function, x):
    """Calls a Python function when the computation around it is executed, not when it is traced."""
    if keras.backend.backend() == "jax":
        import jax

        jax.debug.callback(function)
    elif keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.py_function(function, [], [])
    elif x.device.type != "meta":
        function()
