"""The three backends have one interface: the same names, those that the namespace documents, and no others in use.

The modules are read, not imported, so that one run sees all three.
"""

import ast
import pathlib
import re

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[2] / "keras_regularize"
AUTODIFF = PACKAGE / "autodiff"
BACKENDS = ["_jax", "_tensorflow", "_torch"]


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def parameters_of(function):
    assert not (function.args.kwonlyargs or function.args.vararg or function.args.kwarg)
    return [argument.arg for argument in function.args.args]


def defined(name):
    """What a module of `autodiff` defines or takes from another: names to parameters, `None` for constants."""
    found = {}
    for node in parsed(AUTODIFF / f"{name}.py").body:
        if isinstance(node, ast.FunctionDef):
            found[node.name] = parameters_of(node)
        elif isinstance(node, ast.ClassDef):
            found[node.name] = None
        elif isinstance(node, ast.Assign):
            alias = node.value.id if isinstance(node.value, ast.Name) else None
            for target in node.targets:
                found[target.id] = found.get(alias)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            "keras_regularize"
        ):
            inside = defined(node.module.rsplit(".", 1)[1])
            found |= {entry.asname or entry.name: inside[entry.name] for entry in node.names}
    return found


def public(name):
    return {key: value for key, value in defined(name).items() if not key.startswith("_")}


def documented():
    """`(what methods may use, what serves autodiff alone)` of the docstring of the namespace."""
    table, rest = [], []
    for line in ast.get_docstring(parsed(AUTODIFF / "__init__.py")).splitlines():
        if line.startswith("| `"):
            table.append(line[3:].split("`")[0])
        else:
            rest += re.findall(r"`(\w+\([\w, ]*\))`", line)

    def signatures(entries):
        found = {}
        for entry in entries:
            name, _, given = entry.partition("(")
            given = [word for word in given.rstrip(")").split(", ") if word]
            found[name] = given if "(" in entry else None
        return found

    return signatures(table), signatures(rest)


def used(path):
    """Attributes of `backend` in a module that imports it from `autodiff`."""
    tree = parsed(path)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    known = any(
        node.module == "keras_regularize.autodiff" and "backend" in [n.name for n in node.names]
        for node in imports
    )
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and (
            (known and isinstance(node.value, ast.Name) and node.value.id == "backend")
            # `autodiff.backend.…`, but not `keras.backend.…`.
            or ast.unparse(node.value).endswith("autodiff.backend")
        )
    }


OUTSIDE = [path for path in PACKAGE.rglob("*.py") if AUTODIFF not in path.parents]
INSIDE = [path for path in AUTODIFF.glob("*.py") if path.stem not in BACKENDS]


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_has_what_is_documented_and_nothing_else_that_is_public(name):
    table, own = documented()
    assert public(name) == {**table, **own}, (
        "`_jax.py`, `_tensorflow.py` and `_torch.py` define the names in the docstring of `autodiff`, with these "
        "parameters; helpers begin with an underscore"
    )


def test_code_outside_uses_what_is_meant_for_it():
    uses = {name for path in OUTSIDE for name in used(path)}
    table, own = documented()
    assert uses == set(table), (
        "an undocumented or private name is used, or nobody uses a documented one"
    )
    assert own.keys() <= {name for path in INSIDE for name in used(path)}


def test_code_outside_imports_no_backend_module():
    private = "keras_regularize.autodiff._"
    for path in OUTSIDE:
        for node in ast.walk(parsed(path)):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [entry.name for entry in node.names] if isinstance(node, ast.Import) else []
            assert not any(module.startswith(private) for module in modules), path


def test_no_helper_is_in_two_backends():
    """What two backends do alike has one home, unless it is a line."""
    seen = {}
    for name in BACKENDS:
        for node in parsed(AUTODIFF / f"{name}.py").body:
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                code = "\n".join(map(ast.unparse, body))
                if code.count("\n"):
                    assert code not in seen, (name, node.name, seen[code])
                    seen[code] = (name, node.name)
