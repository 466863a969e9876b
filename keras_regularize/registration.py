"""Registration for serialization and the list of public symbols, in one step."""

import importlib
from collections.abc import Callable
from typing import Any, TypeVar

import keras

Symbol = TypeVar("Symbol", bound=Callable[..., Any])

_PUBLIC: dict[str, Callable[..., Any]] = {}


def export(symbol: Symbol) -> Symbol:
    """Makes a class or function public and loadable from saved models.

    The registered name is `keras_regularize.<namespace>>Name`, where the namespace is the folder below
    the package. It is written into saved files, so it never changes. The namespace is part of it because
    losses and regularizers share names and Keras overwrites an earlier registration silently.

    Decorated symbols are also what the contract tests and the catalog page walk through
    (`public_symbols`), so a symbol cannot be registered without being tested and documented.
    """
    namespace = symbol.__module__.split(".")[1]
    key = f"{namespace}.{symbol.__name__}"
    if key in _PUBLIC and _PUBLIC[key].__module__ != symbol.__module__:
        raise ValueError(
            f"`{key}` is already exported from `{_PUBLIC[key].__module__}`. "
            f"Received a second definition from `{symbol.__module__}`."
        )
    _PUBLIC[key] = symbol
    return keras.saving.register_keras_serializable(f"keras_regularize.{namespace}")(symbol)


def public_symbols() -> dict[str, Callable[..., Any]]:
    """Every exported symbol, `{"losses.MaxSup": MaxSup, …}`, in the order of definition."""
    package = importlib.import_module("keras_regularize")
    for name in package.__all__:
        getattr(package, name)  # Some namespaces are imported when they are first used.
    return dict(_PUBLIC)
