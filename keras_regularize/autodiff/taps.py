"""What passes through a layer, read or changed on its way, in a model of any kind."""

import contextlib
import contextvars
import functools
import threading
from typing import Any

# Per thread, as replicas on TensorFlow are threads that wait for each other in the middle of a pass.
_TAPS: contextvars.ContextVar[tuple[tuple[Any, Any], ...]] = contextvars.ContextVar(
    "taps", default=()
)
_INSTALLING = threading.Lock()


@contextlib.contextmanager
def tap(layer, function):
    """Context in which `function(outputs, *arguments, **keywords)` stands for the outputs of `layer`.

    It does in this thread alone, whichever others run the layer meanwhile. Taps of one layer nest, the inner
    one sees what the outer one made. Nothing stays behind in the layer.
    """
    _install(layer)
    token = _TAPS.set((*_TAPS.get(), (layer, function)))
    try:
        yield
    finally:
        _TAPS.reset(token)
        _remove(layer)


@contextlib.contextmanager
def recorded_output(layer):
    """Context that yields a list to which every call of `layer` appends its output."""
    record = []

    def note(outputs, *_, **__):
        record.append(outputs)
        return outputs

    with tap(layer, note):
        yield record


def _install(layer):
    # An instance attribute hides the method, so that models of any kind, not only functional graphs, work.
    with _INSTALLING:
        attributes, name = vars(layer), _method(layer)
        if not hasattr(attributes.get(name), "taps"):
            attributes[name] = _tapped(layer, name)
        attributes[name].taps += 1


def _remove(layer):
    with _INSTALLING:
        attributes, name = vars(layer), _method(layer)
        tapped = attributes[name]
        tapped.taps -= 1
        if tapped.taps == 0:
            del attributes[name]
            if tapped.hidden is not None:
                attributes[name] = tapped.hidden


def _method(layer):
    """What Keras runs when the layer is called."""
    return "call" if layer.quantization_mode is None else "quantized_call"


def _tapped(layer, name):
    run = getattr(layer, name)

    @functools.wraps(run)  # Keras reads the names of arguments off the signature.
    def call(*args, **kwargs):
        outputs = run(*args, **kwargs)
        for tapped, function in _TAPS.get():
            if tapped is layer:
                outputs = function(outputs, *args, **kwargs)
        return outputs

    vars(call).update(taps=0, hidden=vars(layer).get(name))
    return call
