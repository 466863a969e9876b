"""Whether a classifier is right on a sample although it is attacked: one definition for all who measure it."""

import numpy as np
from keras import ops, tree

from keras_regularize.attacks._points import attacked_outputs, check_floating, is_floating
from keras_regularize.scores import predicts_label


def check_measurable(name, attack):
    """Raises for an attack that does not look for a wrong prediction near an input."""
    if getattr(attack, "returns_perturbation", False):
        raise ValueError(
            f"`{name}` must return perturbed inputs, as `kr.attacks.PGD()` does. "
            f"`{type(attack).__name__}` returns a perturbation. Received: {name}={attack!r}"
        )
    if getattr(attack, "targeted", False):
        raise ValueError(
            f"`{name}` gets the true labels, towards which a targeted attack would lead: pass "
            f"`targeted=False`. Received: {name}={attack!r}"
        )


def check_inputs(attack, x):
    """Raises where the attack cannot move `x`, or `x` is not of the scale of its bounds."""
    if attack.layer is not None:
        return
    check_floating(x)
    bounds, epsilon = getattr(attack, "bounds", None), getattr(attack, "epsilon", 0.0)
    arrays = [a for a in tree.flatten(x) if isinstance(a, np.ndarray) and a.size and is_floating(a)]
    if bounds is None or not arrays:
        return
    smallest, largest = min(a.min() for a in arrays), max(a.max() for a in arrays)
    if smallest < bounds[0] - epsilon or largest > bounds[1] + epsilon:
        raise ValueError(
            f"Clipping into the attack's `bounds` would move the inputs farther than `epsilon`={epsilon:g}: "
            f"expected inputs in {bounds}, received {smallest:g} to {largest:g}. Pass the bounds of the "
            "data, or `bounds=None` where it has none (standardized inputs)"
        )


def withstands(model, x, y, outputs, attacks):
    """1.0 where the label is predicted on the clean input and on that of every attack, else 0.0.

    `outputs` are those for the clean input. Shape `(batch,)`, or `(batch, positions …)` of a model that
    predicts at positions.
    """
    told = [getattr(attack, "from_logits", None) for attack in attacks]
    told = next((entry for entry in told if entry is not None), None)
    hits = predicts_label(y, outputs, model, told)
    for attack in attacks:
        moved = attack(model, x, y)
        outputs = attacked_outputs(model, x, moved, getattr(attack, "layer", None))
        hits = ops.logical_and(hits, predicts_label(y, outputs, model, told))
    return ops.cast(hits, "float32")
