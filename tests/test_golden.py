"""Every public symbol against numbers from an independent source."""

import ast
import pathlib

import pytest

import keras_regularize as kr
from tests import golden_runner
from tests.contract_cases import BASES, TOOLS
from tests.references import REFERENCES

FILES = golden_runner.load()
ROOT = pathlib.Path(__file__).resolve().parent.parent
CASES = [
    pytest.param(api, i, id=f"{api}-{i}")
    for api, file in FILES.items()
    if golden_runner.find(api) is not None
    for i in range(len(file["cases"]))
]


@pytest.mark.everywhere
@pytest.mark.parametrize("api, i", CASES)
def test_golden(api, i):
    file = FILES[api]
    case = {"rtol": 1e-4, "atol": 1e-5, "note": f"case {i}", **file["cases"][i]}
    golden_runner.RUNNERS[file["kind"]](golden_runner.find(api), file, case)


# Functions and callbacks, which need no registration, and all that is registered.
KEYS = sorted(
    {
        f"{namespace}.{name}"
        for namespace in set(kr.__all__) - TOOLS
        for name in getattr(getattr(kr, namespace), "__all__", ())
    }
    - BASES
)


@pytest.mark.once
@pytest.mark.parametrize("key", KEYS)
def test_every_symbol_is_compared_with_an_independent_oracle(key):
    if any(api == key or api.startswith(f"{key}.") for api in FILES):
        return
    assert key in REFERENCES, f"{key} has no golden file and no entry in tests/references.py"
    path, _, name = REFERENCES[key].partition("::")
    tests = [
        node.name for node in ast.parse((ROOT / path).read_text()).body if hasattr(node, "name")
    ]
    assert name in tests, f"{path} has no test {name!r}; tests/references.py names it for {key}"


@pytest.mark.once
def test_references_are_needed():
    known = set(KEYS)
    covered = {".".join(api.split(".")[:2]) for api in FILES}
    assert [key for key in REFERENCES if key not in known or key in covered] == []
