"""Whether a classifier is right on a sample although it is attacked: one definition for all who measure it."""

from keras import ops

from keras_regularize.attacks.points import attacked_outputs
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


def withstands(model, x, y, outputs, attacks):
    """1.0 where the label is predicted on the clean input and on that of every attack, else 0.0.

    `outputs` are those for the clean input. Shape `(batch,)`, or `(batch, positions …)` of a model that
    predicts at positions.
    """
    told = [getattr(attack, "from_logits", None) for attack in attacks]
    from_logits = next((entry for entry in told if entry is not None), None)
    hits = predicts_label(y, outputs, model, from_logits)
    for attack in attacks:
        moved = attack(model, x, y)
        outputs = attacked_outputs(model, x, moved, getattr(attack, "layer", None))
        hits = ops.logical_and(hits, predicts_label(y, outputs, model, from_logits))
    return ops.cast(hits, "float32")
