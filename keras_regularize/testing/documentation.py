"""The contract of a docstring."""

import contextlib
import dataclasses
import inspect
import io
import re
import warnings
from collections.abc import Callable
from typing import Any

from keras_regularize.testing._common import run_checks

_SECTION = re.compile(r"(?<=\n\n)([A-Z][A-Za-z ]{2,40}):")
_EXAMPLE = re.compile(r"^Example:\s*\n+```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
_ENTRY = re.compile(r"^    (\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: \([^)]*\))?:", re.MULTILINE)


def check_docstring(symbol: Callable, *, reference: bool = True) -> dict[str, str]:
    """Checks that a public class or function is documented completely.

    | check | what must hold |
    |---|---|
    | `summary` | a first line that is a sentence of at most 120 characters |
    | `arguments` | `Args:` describes every constructor or call argument, and no other |
    | `type hints` | every argument has one (documentation builds read them) |
    | `returns` | functions that return something have `Returns:` |
    | `reference` | `Reference:` with a year |
    | `example` | `Example:` with a fenced `python` block that runs, without warnings |

    Args:
        symbol: The class or function; of a class the docstring of the class counts.
        reference: Whether there is a paper to cite.

    Returns:
        What became of each check: "passed", "skipped", or "not applicable: " and why.

    Raises:
        AssertionError: If something is missing, or the example fails; says what.

    Cost: that of the example.

    Example:

    ```python
    import keras_regularize as kr

    kr.testing.check_docstring(kr.testing.assert_config_round_trip, reference=False)
    ```
    """
    skip = () if reference else ("reference",)
    return run_checks("check_docstring", symbol, CHECKS, symbol, skip)


def _text(symbol):
    text = symbol.__dict__.get("__doc__") if isinstance(symbol, type) else symbol.__doc__
    if not text:
        raise AssertionError("expected a docstring, got none")
    return inspect.cleandoc(text)


def _section(symbol, name):
    """The text of a section, or None."""
    text = _text(symbol)
    for match in _SECTION.finditer(text):
        if match.group(1) == name:
            rest = text[match.end() :]
            following = _SECTION.search(rest)
            return rest[: following.start()] if following else rest
    return None


def _arguments_of(symbol):
    target = symbol.__init__ if isinstance(symbol, type) else symbol  # type: ignore[misc]  # No instance.
    if target is object.__init__:
        return {}
    parameters = dict(inspect.signature(target).parameters)
    parameters.pop("self", None)
    return parameters


def _summary(symbol):
    line = _text(symbol).split("\n\n")[0].replace("\n", " ").strip()
    first = _text(symbol).splitlines()[0]
    if len(first) > 120 or not line.endswith((".", ":", "!", "?")):
        raise AssertionError(f"expected a first line that is a short sentence, got {first!r}")


def _arguments(symbol):
    parameters = _arguments_of(symbol)
    # Keras' own arguments may go undocumented.
    required = {
        name
        for name, parameter in parameters.items()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        and name not in ("name", "dtype", "reduction")
    }
    section = _section(symbol, "Attributes" if dataclasses.is_dataclass(symbol) else "Args")
    if section is None:
        if required:
            raise AssertionError(f"expected a section `Args:` with {sorted(required)}, got none")
        return
    documented = set()
    for entry in _ENTRY.findall(section):
        documented |= {name.strip().lstrip("*") for name in entry.split(",")}
    if required - documented:
        raise AssertionError(f"`Args:` does not describe {sorted(required - documented)}")
    if documented - set(parameters) and not any(
        parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values()
    ):
        raise AssertionError(
            f"`Args:` describes {sorted(documented - set(parameters))}, which are no arguments"
        )


def _type_hints(symbol):
    missing = [
        name
        for name, parameter in _arguments_of(symbol).items()
        if parameter.annotation is parameter.empty
    ]
    if missing:
        raise AssertionError(f"arguments without a type hint: {missing}")


def _returns(symbol):
    if isinstance(symbol, type):
        return "a class"
    annotation = inspect.signature(symbol).return_annotation
    if annotation is inspect.Signature.empty:
        raise AssertionError("expected a type hint for what is returned, got none")
    if annotation not in (None, "None") and _section(symbol, "Returns") is None:
        raise AssertionError("expected a section `Returns:`, got none")


def _reference(symbol):
    section = _section(symbol, "Reference") or _section(symbol, "References")
    if section is None or not re.search(r"\b(18|19|20)\d\d\b", section):
        raise AssertionError("expected a section `Reference:` with authors, title and year")


def _example(symbol):
    match = _EXAMPLE.search(_text(symbol))
    if match is None:
        raise AssertionError("expected a section `Example:` with a fenced ```python block")
    code = match.group(1)
    namespace: dict[str, Any] = {"__name__": "__example__"}
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            exec(compile(code, "<example>", "exec"), namespace)
        except Exception as error:
            raise AssertionError(
                f"the example raised {type(error).__name__}: {error}\n{code}"
            ) from error


CHECKS = {
    "summary": _summary,
    "arguments": _arguments,
    "type hints": _type_hints,
    "returns": _returns,
    "reference": _reference,
    "example": _example,
}
