"""The division of the suite: together the backends leave nothing out."""

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


def test_torch_runs_all_and_every_test_runs_on_another_backend_too():
    items = [Case(f"alone_{i}") for i in range(90)]
    for count in range(1, 9):
        items += grid(f"test_{count}", n=range(count))
    kept = divided(items)
    assert kept["torch"] == set(items)
    assert kept["tensorflow"] | kept["jax"] == set(items)
    assert not kept["tensorflow"] & kept["jax"]
    # Of three cases and more each of the two has some; of tests without parameters JAX has a third.
    for backend in ("tensorflow", "jax"):
        tests = {item.nodeid.partition("[")[0] for item in kept[backend]}
        assert tests >= {f"test_{count}" for count in range(3, 9)}
    assert 15 <= len([item for item in kept["jax"] if item.nodeid.startswith("alone")]) <= 45


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
