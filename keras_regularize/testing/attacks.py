"""The contract of an attack on a model's inputs."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_regularize.attacks.channels import per_channel
from keras_regularize.testing._common import (
    assert_close,
    assert_config_round_trip,
    assert_finite,
    clone,
    run_checks,
    to_numpy,
)


def check_attack(
    attack: Callable,
    model: keras.Model | None = None,
    x: Any = None,
    y: Any = None,
    *,
    direction: bool = False,
    skip: Sequence[str] = (),
) -> dict[str, str]:
    """Checks that an attack `attack(model, x, y)` keeps the contract of the adversarial train steps.

    | check | what must hold |
    |---|---|
    | `config` | config → JSON → object with every argument and equal attributes |
    | `structure` | shape, dtype and integer leaves of the inputs are kept; batch of one; empty batch |
    | `limits` | within `epsilon` (in the norm `norm`) and inside `bounds`, if it has such attributes |
    | `model` | the model's weights, batch statistics and seeds stay as they are |
    | `ascent` | the model's loss on the perturbed inputs is not below that on the clean ones |
    | `zero` | `epsilon=0` does nothing |
    | `finite` | finite for saturated and for constant models |

    Args:
        attack: The attack to check.
        model: Classifier of inputs `(4,)` into three classes; default: a small one with batch
            normalization and dropout, giving out logits.
        x: Inputs, inside the attack's bounds.
        y: Class ids.
        direction: Whether the attack returns the perturbation instead of perturbed inputs.
        skip: Names of checks that do not apply.

    Returns:
        What became of each check: "passed", "skipped", or "not applicable: " and why.

    Raises:
        AssertionError: If a check fails; names the check, and expected and received values.
        ValueError: If `skip` names no check.

    Cost: seven attacks on a tiny model.

    Example:

    ```python
    import keras_regularize as kr

    kr.testing.check_attack(kr.attacks.FGSM(epsilon=0.1))
    ```
    """
    if model is None:
        model = _network()
    if x is None:
        x = np.random.default_rng(0).uniform(0.3, 0.7, (5, 4))
    y = np.array([0, 2, 1, 1, 0], "int32") if y is None else np.asarray(y)
    case = SimpleNamespace(attack=attack, model=model, y=y, direction=direction)
    case.x = tree.map_structure(
        lambda a: np.asarray(a, "float32") if np.asarray(a).dtype.kind == "f" else np.asarray(a), x
    )
    return run_checks("check_attack", attack, CHECKS, case, skip)


def _network():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(6, activation="tanh"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(3),
        ]
    )


def _perturbed(case, attack=None, model=None, rows=slice(None)):
    """Inputs after the attack."""
    x = tree.map_structure(lambda a: ops.convert_to_tensor(a[rows]), case.x)
    attack = clone(case.attack) if attack is None else attack
    result = attack(model or case.model, x, ops.convert_to_tensor(case.y[rows]))
    if case.direction:
        result = tree.map_structure(lambda a, r: a + ops.cast(r, a.dtype), x, result)
    return tree.map_structure(to_numpy, result)


def _config(case):
    assert_config_round_trip(case.attack)


def _structure(case):
    for rows in (slice(None), slice(0, 1), slice(0, 0)):
        tree.assert_same_structure(case.x, result := _perturbed(case, rows=rows))
        for before, after in zip(tree.flatten(case.x), tree.flatten(result)):
            before = before[rows]
            if after.shape != before.shape or after.dtype != before.dtype:
                raise AssertionError(
                    f"expected {before.dtype} of shape {before.shape}, "
                    f"got {after.dtype} of shape {after.shape}"
                )
            if before.dtype.kind != "f":
                assert_close(after, before, "integer inputs", rtol=0, atol=0)


def _limits(case):
    result = _perturbed(case)
    bounds = getattr(case.attack, "bounds", None)
    epsilon = getattr(case.attack, "epsilon", None)
    moves, channels = [], isinstance(epsilon, list)
    for before, after in zip(tree.flatten(case.x), tree.flatten(result)):
        if before.dtype.kind == "f":
            assert_finite(after, "perturbed inputs")
            if bounds is not None:
                low, high = (per_channel(bound, after) for bound in bounds)
                if (after < low).any() or (after > high).any():
                    raise AssertionError(
                        f"expected inputs in {bounds}, got {after.min()} … {after.max()}"
                    )
            radius = np.maximum(per_channel(epsilon, after), 1e-30) if channels else 1.0
            moves.append(((after - before) / radius).reshape((len(before), -1)))
    if channels:
        epsilon = 1.0  # What was moved is in units of the radii.
    if isinstance(epsilon, (int, float)):
        moved = np.concatenate(moves, axis=1)
        l2 = case.direction or getattr(case.attack, "norm", "linf") == "l2"
        size = np.sqrt((moved**2).sum(1)) if l2 else np.abs(moved).max(1)
        if size.max() > epsilon * (1 + 1e-4) + 1e-6:
            raise AssertionError(f"expected perturbations of at most {epsilon}, got {size.max()}")
    elif bounds is None:
        return "there is neither `epsilon` nor `bounds`"


def _model(case):
    before = [to_numpy(v) for v in case.model.variables]
    _perturbed(case)
    for variable, value in zip(case.model.variables, before):
        assert_close(variable, value, f"`{variable.path}` after an attack", rtol=0, atol=0)


def _losses(case, x):
    outputs = case.model(tree.map_structure(ops.convert_to_tensor, x), training=False)
    return to_numpy(keras.losses.sparse_categorical_crossentropy(case.y, outputs, from_logits=True))


def _ascent(case):
    if case.direction:  # A direction for the divergence from the model's own prediction.
        clean = case.model(tree.map_structure(ops.convert_to_tensor, case.x), training=False)
        moved = case.model(_perturbed(case), training=False)
        divergence = keras.losses.kl_divergence(ops.softmax(clean), ops.softmax(moved))
        if not to_numpy(divergence).mean() > 0:
            raise AssertionError("expected the prediction to change, it did not")
        return
    before, after = _losses(case, case.x).mean(), _losses(case, _perturbed(case)).mean()
    if not after >= before - 1e-6:
        raise AssertionError(f"expected a loss of at least {before:.6g}, got {after:.6g}")


def _zero(case):
    if "epsilon" not in case.attack.get_config():
        return "there is no argument `epsilon`"
    result = _perturbed(case, clone(case.attack, epsilon=0.0))
    for before, after in zip(tree.flatten(case.x), tree.flatten(result)):
        assert_close(after, before, "inputs after an attack with epsilon=0", atol=1e-7)


def _finite(case):
    weights = case.model.get_weights()
    try:
        for scale in (0.0, 1e3):
            case.model.set_weights([scale * w for w in weights])
            for leaf in tree.flatten(_perturbed(case)):
                assert_finite(leaf, f"inputs attacked on a model with weights × {scale}")
    finally:
        case.model.set_weights(weights)


CHECKS = {
    "config": _config,
    "structure": _structure,
    "limits": _limits,
    "model": _model,
    "ascent": _ascent,
    "zero": _zero,
    "finite": _finite,
}
