"""The contract of every public symbol, and the rules of the house that a machine can check.

A symbol is covered from the moment it is exported: inputs come from its golden cases or from the defaults of
`kr.testing`; `contract_cases.py` holds the exceptions.
"""

import ast
import functools
import importlib
import inspect
import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import shares

import keras_regularize as kr
from keras_regularize import testing
from keras_regularize.registration import public_symbols
from tests import contract_cases, golden_runner
from tests.contract_cases import CASES

SYMBOLS = public_symbols()
GOLDEN = golden_runner.load()
ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "keras_regularize"
SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.fixture(autouse=True)
def fresh_logs():
    """The checks need no help of `conftest.py`: users run them without."""


NAMESPACES = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))

keys = pytest.mark.parametrize("key", SYMBOLS)


# Every symbol


def config_of(key):
    """Constructor arguments: those of the table, of the first golden case, or none."""
    if "config" in CASES.get(key, {}):
        return CASES[key]["config"]()
    cases = GOLDEN.get(key, {}).get("cases") or [{}]
    return golden_runner.construct(cases[0].get("config", {}))


def inputs_of(key):
    """The `call` of the first golden case, as arrays."""
    cases = GOLDEN.get(key, {}).get("cases") or [{}]
    return golden_runner.array(cases[0].get("call", {}))


def make(key):
    return SYMBOLS[key](**config_of(key))


def check_loss(key, options):
    given = inputs_of(key)
    if not options.keys() & {"y_true", "y_pred"} and given:
        y_true, y_pred = given["y_true"], given["y_pred"]
        parts = [(y_true, y_pred)]
        while sum(len(y) for y, _ in parts) < 4:  # Further samples with other predictions.
            axis = -1 if y_pred.shape[-1] > 1 else 1
            y_pred = np.roll(y_pred, 1, axis=axis)
            parts.append((y_true, y_pred))
        options["y_true"], options["y_pred"] = map(np.concatenate, zip(*parts))
    testing.check_loss(make(key), **options)


def check_regularizer(key, options):
    if "w" in inputs_of(key):
        options.setdefault("weights", inputs_of(key)["w"])
    options.setdefault("activity", GOLDEN.get(key, {}).get("activity", False))
    testing.check_regularizer(make(key), **options)


def check_constraint(key, options):
    if "w" in inputs_of(key):
        options.setdefault("weights", inputs_of(key)["w"])
    testing.check_constraint(make(key), **options)


def check_activation(key, options):
    symbol = SYMBOLS[key]
    testing.check_activation(symbol() if inspect.isclass(symbol) else symbol, **options)


def check_layer(key, options):
    if "inputs" in inputs_of(key):
        options.setdefault("inputs", inputs_of(key)["inputs"])
    testing.check_layer(make(key), **options)


def check_metric(key, options):
    testing.check_metric(make(key), **{**inputs_of(key), **options})


def check_optimizer(key, options):
    testing.check_optimizer(make(key), **options)


def check_attack(key, options):
    testing.check_attack(make(key), **options)


def check_model(key, options):
    def wrap(model, **changes):
        arguments = CASES.get(key, {}).get("config", dict)()
        return SYMBOLS[key](model, **{**arguments, **changes})

    if "neutral" in options:
        options["neutral"] = functools.partial(wrap, **options["neutral"])
    testing.check_model(wrap, **options)


def check_registered_function(key, options):
    serialized = json.loads(json.dumps(keras.saving.serialize_keras_object(SYMBOLS[key])))
    assert keras.saving.deserialize_keras_object(serialized) is SYMBOLS[key]


def check_serializable(key, options):
    testing.assert_config_round_trip(make(key), **options)


BASES = {
    keras.losses.Loss: check_loss,
    keras.metrics.Metric: check_metric,
    keras.regularizers.Regularizer: check_regularizer,
    keras.constraints.Constraint: check_constraint,
    kr.models.RegularizedModel: check_model,
    keras.layers.Layer: check_layer,
    keras.optimizers.Optimizer: check_optimizer,
}


def check_of(key):
    symbol, namespace = SYMBOLS[key], key.split(".")[0]
    if namespace == "activations":
        return check_activation
    if not inspect.isclass(symbol):
        return check_registered_function
    if key in contract_cases.DICTIONARIES or issubclass(symbol, kr.models.AdversarialModel):
        return check_serializable  # What these do in `fit` is in their own tests.
    for base, check in BASES.items():
        if issubclass(symbol, base):
            return check
    return check_attack if namespace == "attacks" else check_serializable


@pytest.mark.everywhere
@keys
def test_contract(key, request):
    options = dict(CASES.get(key, {}).get("check", dict)())
    check = check_of(key)
    if request.config.getoption("share") and hasattr(testing, check.__name__):
        checks = importlib.import_module(getattr(testing, check.__name__).__module__).CHECKS
        left_out = shares.checks_left_out(key, checks, keras.backend.backend())
        options["skip"] = {*options.get("skip", ()), *left_out}
    check(key, options)


@keys
def test_numpy_numbers_become_plain_ones(key):
    symbol = SYMBOLS[key]
    if not inspect.isclass(symbol) or issubclass(symbol, keras.Model):
        return
    config = make(key).get_config()
    numpy_config = {
        name: np.float32(value) if type(value) is float else value for name, value in config.items()
    }
    restored = symbol.from_config(numpy_config).get_config()
    json.dumps(restored)
    for name, value in config.items():
        if type(value) is float:
            assert restored[name] == pytest.approx(value, rel=1e-6), name


def documented():
    """Every public name with its object: exported symbols, and the functions that need no registration."""
    names = dict(SYMBOLS)
    for namespace in NAMESPACES:
        module = importlib.import_module(f"keras_regularize.{namespace}")
        entries = {f"{namespace}.{name}": getattr(module, name) for name in module.__all__}
        names |= {key: entry for key, entry in entries.items() if callable(entry)}
    return names


@pytest.mark.parametrize("key", documented())
def test_documentation(key):
    paper = key in SYMBOLS and not CASES.get(key, {}).get("no_paper", False)
    testing.check_docstring(documented()[key], reference=paper)


# The house


@pytest.mark.once
def test_no_entry_of_the_table_is_left_over():
    assert set(CASES) - set(SYMBOLS) == set()


@pytest.mark.once
@pytest.mark.parametrize("namespace", NAMESPACES)
def test_a_namespace_lists_what_is_exported(namespace):
    module = importlib.import_module(f"keras_regularize.{namespace}")
    exported = {key.split(".")[1] for key in SYMBOLS if key.startswith(f"{namespace}.")}
    assert exported <= set(module.__all__)
    assert len(set(module.__all__)) == len(module.__all__)
    # What is saved inside of models is registered: all but functions, callbacks and bases.
    bases = {key.split(".")[1] for key in contract_cases.BASES if key.startswith(f"{namespace}.")}
    others = [getattr(module, name) for name in set(module.__all__) - exported - bases]
    classes = [other for other in others if inspect.isclass(other)]
    saved = [c for c in classes if issubclass(c, tuple(BASES)) or namespace == "attacks"]
    assert saved == [], "these need `@export`"


@pytest.mark.once
def test_registered_names_are_unique_and_frozen():
    registered = {key: keras.saving.get_registered_name(symbol) for key, symbol in SYMBOLS.items()}
    assert len(set(registered.values())) == len(registered)
    for key, name in registered.items():
        namespace, short = key.split(".")
        assert name == f"keras_regularize.{namespace}>{short}"
        assert keras.saving.get_registered_object(name) is SYMBOLS[key]
    frozen = (ROOT / "tests" / "registered_names.txt").read_text().split()
    assert sorted(set(frozen)) == frozen, (
        "tests/registered_names.txt must be sorted, without doubles"
    )
    lost = set(frozen) - set(registered.values())
    assert lost == set(), "names in saved files must stay loadable for ever"
    added = sorted(set(registered.values()) - set(frozen))
    assert added == [], "add the new names by `make names`"


def imports(path):
    """Full names of the modules a file imports anywhere."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.once
@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports(path):
    found = list(imports(path))
    assert [name for name in found if (name + ".").startswith("keras.src.")] == []
    if PACKAGE / "autodiff" not in path.parents:
        tops = {name.split(".")[0] for name in found}
        assert tops & {"tensorflow", "jax", "torch", "flax", "optax"} == set()


LEVELS = [
    {
        "autodiff",
        "numerics",
        "labels",
        "lists",
        "targets",
        "scores",
        "masks",
        "ops",
        "utils",
        "configuration",
        "registration",
        "validation",
        "_version",
    },
    {"losses", "regularizers", "constraints", "activations", "metrics"},
    {"layers", "attacks", "optimizers"},
    {"models"},
    {"analysis", "inverse", "generative"},
    {"callbacks"},
    {"hyper"},  # Its searches run trainings, with callbacks in them.
    {"testing"},
]


@pytest.mark.once
def test_folders_import_downwards_and_without_circles():
    level = {name: i for i, names in enumerate(LEVELS) for name in names}
    edges = {}
    for path in SOURCES:
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "keras_regularize" and len(parts) > 1 and parts[1] in level:
                assert level[parts[1]] <= level[own], f"{path} imports {name} from above"
                if parts[1] != own:
                    edges.setdefault(own, set()).add(parts[1])
    done = set()

    def visit(name, trail):
        assert name not in trail, f"circle: {' → '.join([*trail, name])}"
        if name not in done:
            for other in edges.get(name, ()):
                visit(other, [*trail, name])
            done.add(name)

    for name in list(edges):
        visit(name, [])


def test_import_brings_in_no_other_backend_and_no_plotting():
    code = (
        "import random, sys, warnings, keras; before = set(sys.modules); warnings.simplefilter('error'); "
        "import keras_regularize as kr; late = [f'keras_regularize.{name}' for name in kr._LAZY]; "
        "assert not any(name in sys.modules for name in late), late; state = random.getstate(); "
        "[getattr(kr, name) for name in kr._LAZY]; "
        "assert all(name in sys.modules for name in late); "
        "assert random.getstate() == state, 'weights drawn after the first use would be others'; "
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    added = set(result.stdout.split())
    backends = {"tensorflow", "jax", "torch"} - {keras.backend.backend()}
    unwanted = backends | {"matplotlib", "scipy", "sklearn", "pandas", "pytest", "rich"}
    assert added & unwanted == set()


def test_what_is_imported_late_is_in_no_saved_model():
    kinds = (
        keras.Layer,
        keras.Loss,
        keras.Metric,
        keras.Optimizer,
        keras.Regularizer,
        keras.Initializer,
    )
    late = [symbol for key, symbol in SYMBOLS.items() if key.split(".")[0] in kr._LAZY]
    assert late and not [
        symbol for symbol in late if isinstance(symbol, type) and issubclass(symbol, kinds)
    ]
