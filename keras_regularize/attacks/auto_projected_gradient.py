"""Iterated attack that chooses its own step size."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_regularize.attacks._criteria import criterion, value_of_no_loss
from keras_regularize.attacks.attack import (
    along_samples,
    per_sample_max,
    repeat,
    unit_directions,
    where_samples,
)
from keras_regularize.attacks.bounds import (
    Bounds,
    check_bounds,
    clip_to_bounds,
    in_common_unit,
    project,
)
from keras_regularize.attacks.channels import per_channel
from keras_regularize.attacks.runs import AttackInRuns, value_and_ascent
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_integer, check_number, check_numbers


@export
class APGD(AttackInRuns):
    r"""Auto-PGD: projected gradient ascent whose step size adapts to every sample, without tuning.

    From step size $\eta = 2\epsilon$,

    $$z = \Pi\big(x_t + \eta\,d(g_t)\big), \qquad
    x_{t+1} = \Pi\big(x_t + a\,(z - x_t) + (1 - a)\,(x_t - x_{t-1})\big), \qquad a = 0.75$$

    ($a = 1$ in the first step), with $d$ the sign in $L_\infty$ and $g / (\|g\|_2 + 10^{-12})$ in $L_2$, norms
    per sample over all inputs, and $\Pi$ the projection into the ball and then into the bounds. At checkpoints,
    first after 22 % of the steps and then in intervals shorter by 3 % each, down to 6 %, a sample's step size is
    halved, and it goes on from its best point so far, if its loss rose in at most `rho` of the steps since the
    last checkpoint, or if neither its best loss nor its step size has changed since then.

    The result is, of every sample, the last iterate that is misclassified (predicted as the target, if
    targeted), and the input itself where there is none: the attack of choice for measuring robustness, as it
    has nothing to tune but `steps`. For training, `PGD` is: it returns the hardest input also where it does
    not change the prediction. `AutoAttack` runs it with cross-entropy and `"targeted_dlr"`, beside `FAB` and
    `Square`.

    Args:
        epsilon: Radius of the ball, in units of the inputs, at least 0; or a list of one for each channel, as for
            images that were standardized channel by channel (`[8 / 255 / s for s in deviations]`). Channels are
            the last axis, or that of `keras.config.image_data_format()`. In $L_2$ radii are those of an ellipsoid,
            which is the ball before standardizing.
        steps: Number of steps, at least 1.
        norm: `"linf"` or `"l2"`.
        loss: What is maximized: `"cross_entropy"`; or `"dlr"`, the difference of logits ratio
            $-(z_y - \max_{j \ne y} z_j) / (z_{(1)} - z_{(3)} + 10^{-12})$, invariant to the scale of the logits.
            It needs at least 3 classes, and has no slope but that of the guard where the label ranks third. Or
            `"targeted_dlr"`, $(z_t - z_y) / (z_{(1)} - (z_{(3)} + z_{(4)}) / 2 + 10^{-12})$, in a run for each
            of the `num_targets` classes $t$ that rank behind the first at the clean input; it needs at least 4
            classes.
        rho: Share of steps that must raise the loss, from 0 to 1.
        restarts: Number of runs from random starts, at least 1; for each target.
        bounds: Smallest and largest allowed input, each a number or a list of one for each channel; or `None`,
            for inputs without any. The search is clipped into them; inputs farther than `epsilon` outside are an
            error.
        layer: Layer, or its name, whose output is perturbed instead of the inputs (token ids, say);
            `bounds` must then be `None`.
        from_logits: Whether the attacked model gives out logits. `None` asks its compiled loss, or of a model
            without one the activation of its last layer.
        seed: Seed of the random starts, which lie on the sphere: a uniform direction scaled to largest entry
            `epsilon` in $L_\infty$, a Gaussian one of length `epsilon` in $L_2$.
        targeted: Whether the labels of a call are targets, towards which the loss is descended.
        inputs: Names (dictionary) or positions (list) of the inputs that are perturbed, the others staying as they
            are (they may be ids); all floating ones by default. Not together with `layer`.
        num_targets: Number of targets of `"targeted_dlr"`, at least 1; at most all classes but one are taken.

    Call: `attack(model, x, y, initial_perturbation=None)` returns inputs like `x`. A given
    `initial_perturbation`, of the structure of `x`, replaces the random start. Of predictions at several
    positions, one that is wrong makes a sample misclassified.

    Raises:
        ValueError: If an argument is out of range, labels are missing, no input is floating and no `layer` is
            given, or inputs lie farther than `epsilon` outside the bounds.

    Cost: per run `steps` + 1 forward passes and as many backward passes to the inputs, without weight
    gradients; one more forward pass for `layer`. `"targeted_dlr"` makes a run for each target, with a forward pass
    more.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)])
    x = np.random.default_rng(0).random((5, 4), dtype="float32")
    attack = kr.attacks.APGD(epsilon=0.1, steps=20, loss="dlr")
    adversarial = attack(model, x, np.array([0, 1, 2, 3, 4]))
    ```

    Reference: Croce and Hein, *Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse
    Parameter-free Attacks*, ICML 2020, arXiv:2003.01690. As in the authors' code, the loss before the first
    step counts as 0 at the first checkpoint. Differs in attacking misclassified inputs too.
    """

    def __init__(
        self,
        epsilon: float | Sequence[float] = 8 / 255,
        steps: int = 100,
        norm: str = "linf",
        loss: str = "cross_entropy",
        rho: float = 0.75,
        restarts: int = 1,
        bounds: Bounds | None = (0.0, 1.0),
        layer: Any = None,
        from_logits: bool | None = None,
        seed: int | None = None,
        targeted: bool = False,
        inputs: Sequence[str | int] | None = None,
        num_targets: int = 9,
    ):
        if targeted and loss == "targeted_dlr":
            raise ValueError(
                "The loss 'targeted_dlr' chooses targets itself and takes the true labels; the loss 'dlr' takes "
                f"targets. Received: targeted={targeted!r}, loss='targeted_dlr'"
            )
        super().__init__(layer=layer, from_logits=from_logits, seed=seed, inputs=inputs)
        self.epsilon = check_numbers("epsilon", epsilon, minimum=0)
        self.steps = check_integer("steps", steps, minimum=1)
        self.norm = check_choice("norm", norm, ("linf", "l2"))
        self.loss = check_choice("loss", loss, ("cross_entropy", "dlr", "targeted_dlr"))
        self.rho = check_number("rho", rho, minimum=0, maximum=1)
        self.restarts = check_integer("restarts", restarts, minimum=1)
        self.num_targets = check_integer("num_targets", num_targets, minimum=1)
        self.bounds = check_bounds(bounds, layer)
        self.targeted = bool(targeted)

    def num_runs(self, classes):
        if self.loss != "targeted_dlr":
            return self.restarts
        return self.restarts * min(self.num_targets, classes() - 1)

    def run(self, point, y, initial_perturbation=None):
        def run(number):
            rank = 2 + number // self.restarts if self.loss == "targeted_dlr" else None
            value = criterion(self.loss, point, y, self, self.targeted, rank)
            evaluate = value_and_ascent(value, point, y, self)
            return self._run(point, evaluate, self._start(point, initial_perturbation))

        return run

    def _run(self, point, evaluate, start):
        losses, fooled, gradient = evaluate(start)
        zeros = ops.zeros_like(losses)
        state = _State(
            leaves=start,
            previous=start,
            gradient=gradient,
            step=zeros + 2.0,
            best=start,
            best_gradient=gradient,
            best_loss=losses,
            last_loss=zeros + value_of_no_loss(self.loss, point, self),
            rises=zeros,
            checked_loss=losses,
            halved=ops.ones_like(fooled),
            fooled=fooled,
            adversarial=start,
        )
        windows = ops.convert_to_tensor(checkpoints(self.steps))

        def body(i, state):
            momentum = ops.where(ops.equal(i, 0), 0.0, 0.25)
            state = self._advance(point, evaluate, state, momentum)
            return self._adapt(state, ops.take(windows, i))

        state = repeat(self.steps, body, state)
        return state.fooled, state.adversarial

    def _advance(self, point, evaluate, state, momentum):
        """One step, and what it changed."""
        start, x = point.start, state.leaves
        ball = (self.norm, self.epsilon, self.bounds)
        ahead = [
            a + ops.cast(along_samples(state.step, a), a.dtype) * per_channel(self.epsilon, a) * d
            for a, d in zip(x, self._direction(state.gradient))
        ]
        ahead = project(start, ahead, *ball)
        moved = []
        for a, z, old in zip(x, ahead, state.previous):
            m = ops.cast(momentum, a.dtype)
            moved.append(a + (1 - m) * (z - a) + m * (a - old))
        leaves = project(start, moved, *ball)
        losses, fooled, gradient = evaluate(leaves)
        better = losses > state.best_loss
        return state._replace(
            leaves=leaves,
            previous=x,
            gradient=gradient,
            best=where_samples(better, leaves, state.best),
            best_gradient=where_samples(better, gradient, state.best_gradient),
            best_loss=ops.maximum(losses, state.best_loss),
            last_loss=losses,
            rises=state.rises + ops.cast(losses > state.last_loss, losses.dtype),
            fooled=ops.logical_or(state.fooled, fooled),
            adversarial=where_samples(fooled, leaves, state.adversarial),
        )

    def _adapt(self, state, window):
        """At a checkpoint, `window` steps after the last one (0 elsewhere), halves steps that led nowhere."""
        due = window > 0
        few = state.rises <= self.rho * ops.cast(window, state.rises.dtype)
        stuck = ops.logical_and(
            ops.logical_not(state.halved), state.checked_loss >= state.best_loss
        )
        halve = ops.logical_and(due, ops.logical_or(few, stuck))
        return state._replace(
            leaves=where_samples(halve, state.best, state.leaves),
            gradient=where_samples(halve, state.best_gradient, state.gradient),
            step=ops.where(halve, state.step / 2, state.step),
            rises=ops.where(due, 0.0, state.rises),
            checked_loss=ops.where(due, state.best_loss, state.checked_loss),
            halved=ops.where(due, halve, state.halved),
        )

    def _direction(self, gradient):
        if self.norm == "linf":
            return [ops.sign(g) for g in gradient]
        return unit_directions(in_common_unit(gradient, self.epsilon))

    def _start(self, point, initial_perturbation):
        start, seed = point.start, self.seed_generator
        if initial_perturbation is not None:
            given = point.aligned(initial_perturbation)
            return clip_to_bounds([s + p for s, p in zip(start, given)], self.bounds)
        if self.norm == "linf":
            noise = [keras.random.uniform(ops.shape(s), -1.0, 1.0, s.dtype, seed) for s in start]
            noise = [n / m for n, m in zip(noise, per_sample_max(noise))]
        else:
            noise = [keras.random.normal(ops.shape(s), dtype=s.dtype, seed=seed) for s in start]
            noise = unit_directions(noise)
        moved = [s + per_channel(self.epsilon, s) * n for s, n in zip(start, noise)]
        return clip_to_bounds(moved, self.bounds)


class _State(NamedTuple):
    """What a run carries along: lists of tensors like the inputs, and `(batch,)` vectors."""

    leaves: list[Any]
    previous: list[Any]
    gradient: list[Any]
    step: Any  # In units of the radius.
    best: list[Any]
    best_gradient: list[Any]
    best_loss: Any
    last_loss: Any
    rises: Any  # How often the loss rose since the last checkpoint.
    checked_loss: Any  # The best loss at the last checkpoint.
    halved: Any  # Whether the step was halved there.
    fooled: Any
    adversarial: list[Any]


def checkpoints(steps):
    """At every step the number of steps since the last checkpoint if one is due after it, else 0."""
    window = max(int(0.22 * steps), 1)
    windows, due = np.zeros(steps, "int32"), window
    while due <= steps:
        windows[due - 1] = window
        window = max(window - max(int(0.03 * steps), 1), max(int(0.06 * steps), 1))
        due += window
    return windows
