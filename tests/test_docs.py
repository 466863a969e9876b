"""The pages of the site against the code: nothing public is missing, nothing on them is out of date."""

import inspect
import pathlib
import re
import sys
import types

import pytest

import keras_regularize as kr
from docs.tools import guides, reference
from keras_regularize.registration import public_symbols

pytestmark = pytest.mark.once

ROOT = pathlib.Path(__file__).resolve().parent.parent
NAMESPACES = [name for name in kr.__all__ if not name.startswith("_")]
members = reference.members


def read(path):
    return (ROOT / path).read_text("utf-8")


def test_every_public_name_is_in_the_catalog_once_and_says_what_it_is():
    names = re.findall(
        r"^\| \[`([\w.]+)`\]\(api/\w+\.md#keras_regularize\.\1\) \| \S", reference.catalog(), re.M
    )
    assert len(names) == len(set(names))
    assert set(public_symbols()) <= set(names)
    constants = {"numerics.GUARD", "numerics.TINY", "analysis.CORRUPTIONS"}
    assert set(reference.public_names()) - set(names) <= constants


def test_every_method_says_what_it_costs():
    assert [key for key, symbol in public_symbols().items() if not reference.cost(symbol)] == []


def test_every_family_has_members_and_a_page():
    assert set(reference.FAMILIES) <= set(reference.families())
    assert set(reference.ALSO) == set(reference.FAMILIES)
    pages = re.findall(r"api/(\w+)\.md", read("mkdocs.yml"))
    assert sorted(pages) == sorted([*map(reference.slug, reference.families()), "namespaces"])
    for title, keys in reference.families().items():
        page = reference.family_page(title, {})
        assert re.findall(r"^::: keras_regularize\.([\w.]+)$", page, re.M) == keys


def test_an_entry_shows_where_it_is_at_work():
    page = reference.family_page("Noisy labels", {"models.ELR": ["- [a guide](guide.md)"]})
    entry = page.split("::: keras_regularize.models.ELR\n")[1].split(":::")[0]
    assert "- [a guide](guide.md)" in entry
    assert page.count("**At work**") == 1


def test_every_namespace_says_where_it_goes():
    assert {*reference.GOES_INTO, *reference.TOOLS} == set(NAMESPACES)
    for namespace in NAMESPACES:
        assert f"{{ #keras_regularize.{namespace} }}" in reference.namespaces()


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
    names = [path.stem for path in guides.scripts()]
    assert sorted(re.findall(r"guides/(\w+)\.md", read("mkdocs.yml"))) == names


@pytest.mark.rotating
@pytest.mark.parametrize("path", ["README.md", "docs/index.md", "docs/compose.md"])
def test_the_code_on_the_pages_runs(path):
    blocks = re.findall(r"^```python\n(.*?)^```", read(path), re.MULTILINE | re.DOTALL)
    assert blocks
    exec("\n".join(blocks), {"__name__": "__example__"})
