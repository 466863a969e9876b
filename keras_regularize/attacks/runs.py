"""Attacks that search in several runs, and what they have in common."""

from collections.abc import Callable
from typing import Any

from keras import ops

from keras_regularize import autodiff
from keras_regularize.attacks.attack import Attack, where_samples
from keras_regularize.attacks.points import Point
from keras_regularize.autodiff.compiled_losses import per_sample
from keras_regularize.scores import class_outputs, predicts_label

#: A run: from its number, which may be a tensor, to which samples it fooled, `(batch,)`, and the tensors it found.
Run = Callable[[Any], tuple[Any, list[Any]]]


class AttackInRuns(Attack):
    """An attack that gives, of every sample, the result of the first run that fools the model, else the input."""

    def num_runs(self, classes: Callable[[], int]) -> int:
        """How many there are; `classes` gives the number of classes, where it depends on that."""
        return 1

    def run(self, point: Point, y: Any, *args: Any, **start: Any) -> Run:
        """What a run is, on these samples."""
        raise NotImplementedError

    def search(self, point, y, **start):
        run = self.run(point, y, **start)
        fooled, best = run(0)
        best = where_samples(fooled, best, point.start)
        for number in range(1, self.num_runs(lambda: _classes(point))):
            now, leaves = run(number)
            best = where_samples(ops.logical_and(now, ops.logical_not(fooled)), leaves, best)
            fooled = ops.logical_or(fooled, now)
        return best


def _classes(point):
    outputs = class_outputs(point.outputs(point.start), point.model)
    return max(outputs.shape[-1], 2)


class OneRun(Attack):
    """A single run of an attack, called with its number: `OneRun(attack)(model, x, y, number=3)`."""

    def __init__(self, attack):
        super().__init__(from_logits=attack.from_logits)
        self.attack = attack
        self.bounds = None  # Checked once for all runs.

    def search(self, point, y, number):
        fooled, leaves = self.attack.run(point, y)(number)
        return where_samples(fooled, leaves, point.start)


def fools(point, y, attack, outputs):
    """Whether the label is not predicted, at one position at least; the target of a targeted attack is at all.

    Shape `(batch,)`.
    """
    hits = predicts_label(y, outputs, point.model, attack.from_logits)
    hits = per_sample(ops.cast(hits, "float32"))
    return hits == 1 if getattr(attack, "targeted", False) else hits < 1


def value_and_ascent(value, point, y, attack):
    """A function of leaves: `(values, fooled, gradient)`, the last of the summed values."""

    def total(leaves):
        outputs = point.outputs(leaves)
        values = value(outputs)
        return ops.sum(values), (values, fools(point, y, attack, outputs))

    def evaluate(leaves):
        (_, (values, fooled)), gradient = autodiff.value_and_grad(total, has_aux=True)(leaves)
        return values, fooled, gradient

    return evaluate
