"""Callbacks of `fit` by which a method acts between epochs."""

import inspect

import keras


def with_own_callbacks(own, model, args, kwargs):
    """`(args, kwargs)` of `model.fit` with further callbacks before those that are given, also by place."""
    if not own:
        return args, kwargs
    given = inspect.signature(keras.Model.fit).bind(model, *args, **kwargs).arguments
    kwargs = {name: value for name, value in given.items() if name != "self"}
    return (), {**kwargs, "callbacks": [*own, *_listed(kwargs.get("callbacks"))]}


def _listed(callbacks):
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks.callbacks
    return callbacks if isinstance(callbacks, (list, tuple)) else [c for c in (callbacks,) if c]
