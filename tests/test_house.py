"""How the package is laid out: what a leading underscore means, and where a family becomes a folder."""

import ast
import pathlib

import pytest

pytestmark = pytest.mark.once

PACKAGE = pathlib.Path(__file__).resolve().parent.parent / "keras_regularize"
SOURCES = sorted(PACKAGE.rglob("*.py"))
FOLDERS = sorted(path.parent for path in PACKAGE.glob("*/*/__init__.py"))


def imported(path):
    """Parts of the names within the package that a file imports: `("losses", "loss", "Loss")`."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "keras_regularize":
            for alias in node.names:
                yield (*node.module.split(".")[1:], alias.name)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_what_begins_with_an_underscore_stays_in_its_namespace(path):
    own = path.relative_to(PACKAGE).parts[0]
    foreign = [parts for parts in imported(path) if parts[0] != own and path.parent != PACKAGE]
    private = [".".join(parts) for parts in foreign if any(p.startswith("_") for p in parts)]
    assert private == [], "a module that other namespaces need has no underscore"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_family_has_a_folder_from_three_methods_on(folder):
    public = {
        alias.asname or alias.name
        for init in (folder.parent / "__init__.py", folder / "__init__.py")
        for node in ast.walk(ast.parse(init.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and folder.name in node.module.split(".")
        for alias in node.names
    }
    if folder.name != "step":  # The train step, which is no family.
        assert len(public) >= 3, f"{sorted(public)} belong in the namespace itself"
