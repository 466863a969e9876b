"""The division of the suite."""

import itertools
from types import SimpleNamespace

import pytest
import shares

pytestmark = pytest.mark.once


class Case:
    def __init__(self, test, parameters=None, marks=()):
        self.nodeid = f"{test}[{parameters}]" if parameters else test
        self.marks = [SimpleNamespace(name=name) for name in marks]
        if parameters:
            self.callspec = SimpleNamespace(params=parameters)

    def iter_markers(self):
        return iter(self.marks)


def grid(test="test", marks=(), **arguments):
    values = itertools.product(*arguments.values())
    return [Case(test, dict(zip(arguments, each)), marks) for each in values]


def divided(items):
    return {backend: shares.share(items, backend) for backend in shares.BACKENDS}


def test_torch_runs_all_and_the_others_samples_of_it():
    items = [Case(f"alone_{i}") for i in range(800)]
    for count in (8, 16, 32):
        items += grid(f"test_{count}", n=range(count))
    kept = divided(items)
    assert kept["torch"] == set(items)
    assert not kept["tensorflow"] & kept["jax"]
    for backend in ("tensorflow", "jax"):
        size, _ = shares.SAMPLES[backend]
        alone = [case for case in kept[backend] if case.nodeid.startswith("alone")]
        assert abs(len(alone) - 800 / size) < 480 / size
        # Whatever the first case: one of so many in a row.
        tests = [item.nodeid.partition("[")[0] for item in kept[backend]]
        assert tests.count(f"test_{size}") == 1 and tests.count("test_8") <= 1


def test_the_samples_are_of_cases_that_see_every_value_of_every_parameter():
    items = grid(name="abcdefgh", size=range(3), flag=(True, False))
    selection = shares.covering(items)
    for argument, values in {"name": "abcdefgh", "size": range(3), "flag": (True, False)}.items():
        assert {case.callspec.params[argument] for case in selection} == set(values)
    assert len(selection) <= 8 + 3 + 2
    kept = divided(items)
    assert kept["tensorflow"] | kept["jax"] < set(selection)


def test_the_checks_of_a_contract():
    checks = ["config", "gradient", "labels", "empty batch", "finite", "saving"]
    symbols = [f"losses.{i}" for i in range(400)]
    assert all(not shares.checks_left_out(symbol, checks, "torch") for symbol in symbols)
    for backend in ("tensorflow", "jax"):
        left_out = [shares.checks_left_out(symbol, checks, backend) for symbol in symbols]
        assert all("finite" not in names and len(names - {"gradient"}) >= 3 for names in left_out)
        for check in ("config", "labels", "empty batch", "saving"):
            assert 30 < sum(check not in names for names in left_out) < 70
    for symbol in symbols:  # One of the two.
        left_out = [shares.checks_left_out(symbol, checks, b) for b in ("tensorflow", "jax")]
        assert sum("gradient" in names for names in left_out) == 1


def test_marks():
    everywhere = grid(marks=["everywhere"], n=range(9))
    assert set(map(len, divided(everywhere).values())) == {9}
    once = divided(grid(marks=["once"], n=range(9)))
    assert [len(once[backend]) for backend in shares.BACKENDS] == [0, 0, 9]
    rotating = grid(marks=["once", "rotating"], n=range(30))
    kept = divided(rotating)
    assert sum(map(len, kept.values())) == 30 and set().union(*kept.values()) == set(rotating)
    assert all(kept.values())


def test_it_does_not_depend_on_the_order():
    items = grid(name="abcdef", size=range(3))
    assert divided(items) == divided(items[::-1])
