"""What the package claims to be, typed: its marker, and the hints of all that a user calls.

That the hints fit the code is a matter of mypy, which `make lint` runs.
"""

import functools
import importlib.resources
import inspect
import typing

import pytest

import keras_regularize as kr

pytestmark = pytest.mark.once

NAMESPACES = [name for name in kr.__all__ if not name.startswith("_")]


def public_classes(namespace):
    """The classes of a namespace, and those of the package that they inherit from."""
    module = getattr(kr, namespace)
    for symbol in vars(module).values():
        if isinstance(symbol, type) and symbol.__name__ in getattr(module, "__all__", vars(module)):
            yield from (c for c in symbol.__mro__ if c.__module__.startswith("keras_regularize."))


def public_methods(cls):
    """Methods and properties that a class adds to its bases: those it overrides have the hints of the base."""
    for name, value in vars(cls).items():
        if name.startswith("_") and name not in ("__init__", "__call__"):
            continue
        if name != "__init__" and any(name in vars(base) for base in cls.__mro__[1:]):
            continue
        if isinstance(value, (staticmethod, classmethod)):
            value = value.__func__
        elif isinstance(value, property):
            value = value.fget
        elif isinstance(value, functools.cached_property):
            value = value.func
        if inspect.isfunction(value) and value.__module__ == cls.__module__:
            yield name, value


def without_hints(name, function):
    signature = inspect.signature(function)
    missing = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.annotation is parameter.empty and parameter.name not in ("self", "cls")
    ]
    if name != "__init__" and signature.return_annotation is signature.empty:
        missing.append("return")
    return missing


def test_the_package_is_marked_as_typed():
    assert (importlib.resources.files("keras_regularize") / "py.typed").is_file()


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_every_public_method_has_type_hints(namespace):
    untyped = {
        f"{cls.__module__}.{cls.__qualname__}.{name}": missing
        for cls in public_classes(namespace)
        for name, function in public_methods(cls)
        if (missing := without_hints(name, function))
    }
    assert untyped == {}


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_type_hints_name_what_exists(namespace):
    # A hint in quotes, or behind `TYPE_CHECKING`, is read by tools long after the import.
    for cls in public_classes(namespace):
        for _, function in public_methods(cls):
            typing.get_type_hints(function)
