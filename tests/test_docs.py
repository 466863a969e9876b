"""The pages of the site against the code: nothing public is missing, nothing on them is out of date."""

import inspect
import pathlib
import re
import runpy
import sys
import types

import pytest

import keras_regularize as kr
from keras_regularize.registration import public_symbols

pytestmark = pytest.mark.once

ROOT = pathlib.Path(__file__).resolve().parent.parent
NAMESPACES = [name for name in kr.__all__ if not name.startswith("_")]
GUIDES = sorted(path.stem for path in (ROOT / "guides").glob("*.py"))


def read(path):
    return (ROOT / path).read_text("utf-8")


def script(name):
    """The functions of a script that writes pages."""
    return runpy.run_path(str(ROOT / "docs" / f"{name}.py"))


REFERENCE = script("build_reference")
members = REFERENCE["members"]


def test_the_catalog_has_a_row_with_a_cost_for_every_symbol():
    rows = {}
    for line in REFERENCE["catalog"]().splitlines():
        found = re.match(r"\| \[`[\w.]+`\]\(api/\w+\.md#keras_regularize\.([\w.]+)\)", line)
        if found:
            assert found[1] not in rows, f"kr.{found[1]} is in two families"
            rows[found[1]] = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
    assert set(public_symbols()) <= set(rows)
    assert set(rows) == set(REFERENCE["methods"]())
    lacking = [key for key in public_symbols() if not (rows[key][1] and rows[key][3])]
    assert lacking == []


def test_every_family_has_members():
    names = REFERENCE["methods"]()
    assert set(REFERENCE["grouped"](names)) == set(REFERENCE["FAMILIES"])


def test_every_namespace_has_its_page():
    assert {*REFERENCE["GOES_INTO"], *REFERENCE["TOOLS"]} == set(NAMESPACES)
    for namespace in NAMESPACES:
        page = REFERENCE["api_page"](namespace)
        assert inspect.getdoc(getattr(kr, namespace)) in page
        assert f"api/{namespace}.md\n" in read("mkdocs.yml")
        for name in members(namespace):
            entry = namespace if namespace in REFERENCE["TOOLS"] else f"{namespace}.{name}"
            assert f"::: keras_regularize.{entry}\n" in page


def test_every_public_symbol_is_on_the_page_of_its_namespace():
    # A page shows the members of a namespace that its `__all__` lists.
    for key, symbol in public_symbols().items():
        namespace, name = key.split(".")
        assert namespace in NAMESPACES
        assert members(namespace).get(name) is symbol, f"kr.{namespace}.__all__ lacks {name!r}"


def test_no_module_hides_behind_a_function_of_the_same_name():
    # The site reads the sources without importing them, and takes `kr.losses.name` for the module.
    hidden = []
    for path, module in list(sys.modules.items()):
        parent, _, name = path.rpartition(".")
        if parent.startswith("keras_regularize"):
            if getattr(sys.modules[parent], name) is not module:
                hidden.append(path)
    assert hidden == [], "rename these files, for instance with a leading underscore"


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_everything_public_has_a_docstring_and_type_hints(namespace):
    for name, symbol in members(namespace).items():
        if isinstance(symbol, types.ModuleType) or not callable(symbol):
            continue
        assert inspect.getdoc(symbol), f"kr.{namespace}.{name} has no docstring"
        function = symbol.__init__ if isinstance(symbol, type) else symbol
        if function is object.__init__:
            continue
        signature = inspect.signature(function)
        untyped = [
            parameter.name
            for parameter in signature.parameters.values()
            if parameter.name != "self" and parameter.annotation is parameter.empty
        ]
        if not isinstance(symbol, type) and signature.return_annotation is signature.empty:
            untyped.append("return")
        assert untyped == [], f"kr.{namespace}.{name} lacks type hints for {untyped}"


@pytest.mark.parametrize("namespace", NAMESPACES)
def test_documented_arguments_are_those_of_the_signature(namespace):
    # Else the site does not build.
    for name, symbol in members(namespace).items():
        if isinstance(symbol, types.ModuleType) or not callable(symbol):
            continue
        section = re.search(r"^Args:\n(.*?)(?=\n\n|\Z)", inspect.getdoc(symbol), re.M | re.S)
        listed = re.findall(r"^    (\S[^:\n]*):", section[1], re.M) if section else []
        parameters = set(inspect.signature(symbol).parameters)
        unknown = [entry for entry in listed if entry.lstrip("*") not in parameters]
        assert unknown == [], f"kr.{namespace}.{name} has no arguments {unknown}"


def test_the_navigation_lists_every_guide():
    assert sorted(re.findall(r"guides/(\w+)\.md", read("mkdocs.yml"))) == GUIDES


def test_every_guide_becomes_a_page():
    for guide in GUIDES:
        page = script("build_guides")["page"](read(f"guides/{guide}.py"))
        assert page.startswith("# "), f"guides/{guide}.py must begin with a heading"


def test_a_page_alternates_text_and_code():
    code = 'import keras\n\n\ndef f():\n    """Not text."""'
    page = script("build_guides")["page"](
        f'"""\n# Title\n\nText.\n"""\n\n{code}\n\n\n"""More."""\n'
    )
    assert page == f"# Title\n\nText.\n\n```python\n{code}\n```\n\nMore.\n"


@pytest.mark.rotating
@pytest.mark.parametrize("path", ["README.md", "docs/index.md", "docs/compose.md"])
def test_the_code_on_the_pages_runs(path):
    blocks = re.findall(r"^```python\n(.*?)^```", read(path), re.MULTILINE | re.DOTALL)
    assert blocks
    exec("\n".join(blocks), {"__name__": "__example__"})
