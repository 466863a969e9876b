"""The division of the suite: together the backends leave nothing out, and none leaves out a test."""

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


def test_torch_runs_all_and_every_test_runs_on_every_backend():
    items = [Case("alone")]
    for count in range(1, 9):
        items += grid(f"test_{count}", n=range(count))
    for kept in divided(items).values():
        assert {item.nodeid.partition("[")[0] for item in kept} == {
            item.nodeid.partition("[")[0] for item in items
        }
    assert divided(items)["torch"] == set(items)


def test_the_other_two_see_every_value_of_every_parameter():
    items = grid(name="abcdefgh", size=range(3), flag=(True, False))
    kept = divided(items)
    both = kept["tensorflow"] | kept["jax"]
    for argument, values in {"name": "abcdefgh", "size": range(3), "flag": (True, False)}.items():
        assert {case.callspec.params[argument] for case in both} == set(values)
    assert not kept["tensorflow"] & kept["jax"]
    assert len(both) <= 8 + 3 + 2


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
