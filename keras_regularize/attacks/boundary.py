"""Attack that looks for the closest misclassified input."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_regularize.attacks._criteria import criterion
from keras_regularize.attacks.attack import repeat
from keras_regularize.attacks.bounds import Bounds, check_bounds, clip_to_bounds, in_radii
from keras_regularize.attacks.channels import per_channel
from keras_regularize.attacks.runs import AttackInRuns, fools, value_and_ascent
from keras_regularize.numerics import GUARD, TINY, cumsum, maximum, minimum
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_integer, check_numbers

PULL, OVERSHOOT, BACK = 0.1, 1.05, 0.9
FAR = 1e12  # In the place of bounds that are not there.


@export
class FAB(AttackInRuns):
    r"""Fast adaptive boundary attack: the closest input of a wrong class, found without a step size.

    At $x_t$, where the logit of a target $t$ lies $f = z_t - z_y$ above that of the label and $w = \nabla f$, the
    boundary is taken for the plane $f + \langle w, v - x_t \rangle = 0$. With $p(v)$ the closest point to $v$ in
    that plane and in the bounds,

    $$x_{t+1} = \mathrm{clip}\Big((1 - a)\big(x_t + \eta\,(p(x_t) - x_t)\big)
    + a\,\big(x + \eta\,(p(x) - x)\big)\Big),$$
    $$a = \min\Big(\tfrac{d_1}{d_1 + d_2},\ 0.1\Big),\ \eta = 1.05,$$

    with the lengths $d_1$ and $d_2$ of the two moves: mostly towards the boundary, a little towards the input.
    An iterate that fools the model is kept if it is the closest so far, and the search goes on from nine tenths
    of the way to it. This is the targeted version, FAB-T: for each of the `num_targets` classes that rank behind
    the first at the clean input a run from that input, in which nothing is random. With `restarts` there are
    further ones, from random points half as far away as `epsilon`.

    It does not depend on the scale of the logits and needs no loss, so it finds what attacks on a loss miss. The
    result is the closest misclassified input found if that is within `epsilon`, else the input itself.

    Args:
        epsilon: Radius of the ball, in units of the inputs, at least 0; or a list of one for each channel, as for
            images that were standardized channel by channel (`[8 / 255 / s for s in deviations]`). Channels are
            the last axis, or that of `keras.config.image_data_format()`. In $L_2$ radii are those of an ellipsoid,
            which is the ball before standardizing.
        steps: Number of steps of each run, at least 1.
        norm: `"linf"` or `"l2"`.
        num_targets: Number of targets, at least 1; at most all classes but one are taken.
        bounds: Smallest and largest allowed input, each a number or a list of one for each channel; or `None`,
            for inputs without any. The search is clipped into them; inputs farther than `epsilon` outside are an
            error.
        layer: Layer, or its name, whose output is perturbed instead of the inputs (token ids, say);
            `bounds` must then be `None`.
        from_logits: Whether the attacked model gives out logits. `None` asks its compiled loss, or of a model
            without one the activation of its last layer.
        inputs: Names (dictionary) or positions (list) of the inputs that are perturbed, the others staying as they
            are (they may be ids); all floating ones by default. Not together with `layer`.
        restarts: Number of runs for each target, at least 1: the first one from the input, the others from random
            starts.
        seed: Seed of these.

    Call: `attack(model, x, y)` returns inputs like `x`.

    Raises:
        ValueError: If an argument is out of range, labels are missing, no input is floating and no `layer` is
            given, or inputs lie farther than `epsilon` outside the bounds.

    Cost: for each run 2 `steps` + 1 forward passes and `steps` backward passes to the inputs, without weight
    gradients, and as many sorts of the pixels; one more forward pass for `layer`.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)])
    x = np.random.default_rng(0).random((5, 4), dtype="float32")
    adversarial = kr.attacks.FAB(epsilon=0.1, steps=20)(model, x, np.array([0, 1, 2, 3, 4]))
    ```

    Reference: Croce and Hein, *Minimally distorted Adversarial Examples with a Fast Adaptive Boundary Attack*,
    ICML 2020, arXiv:1907.02044. Differs in attacking misclassified inputs too.
    """

    def __init__(
        self,
        epsilon: float | Sequence[float] = 8 / 255,
        steps: int = 100,
        norm: str = "linf",
        num_targets: int = 9,
        bounds: Bounds | None = (0.0, 1.0),
        layer: Any = None,
        from_logits: bool | None = None,
        inputs: Sequence[str | int] | None = None,
        restarts: int = 1,
        seed: int | None = None,
    ):
        super().__init__(layer=layer, from_logits=from_logits, seed=seed, inputs=inputs)
        self.epsilon = check_numbers("epsilon", epsilon, minimum=0)
        self.steps = check_integer("steps", steps, minimum=1)
        self.norm = check_choice("norm", norm, ("linf", "l2"))
        self.num_targets = check_integer("num_targets", num_targets, minimum=1)
        self.restarts = check_integer("restarts", restarts, minimum=1)
        self.bounds = check_bounds(bounds, layer)

    def num_runs(self, classes):
        return self.restarts * min(self.num_targets, classes() - 1)

    def run(self, point, y):
        # Moves are in units of the radius, in one row per sample.
        start = clip_to_bounds(point.start, self.bounds)
        radii = [per_channel(self.epsilon, s) for s in start]

        def leaves_of(moves):
            moves = _like(moves, start)
            return clip_to_bounds([s + e * m for s, e, m in zip(start, radii, moves)], self.bounds)

        low, high = self._room(start)

        def run(number):
            rank = 2 + number // self.restarts
            value = criterion("target_margin", point, y, self, rank=rank)
            evaluate = value_and_ascent(value, point, y, self)

            def step(_, state):
                moves, best, distance = state
                gaps, _, gradient = evaluate(leaves_of(moves))
                plane = _rows([e * g for e, g in zip(radii, gradient)])
                gaps = ops.cast(gaps, plane.dtype)[:, None]
                at_start = gaps - ops.sum(plane * moves, axis=1, keepdims=True)
                ahead = onto_plane(plane, gaps, low - moves, high - moves, self.norm)
                back = onto_plane(plane, at_start, low, high, self.norm)
                lengths = [maximum(self._length(d), 1e-8) for d in (ahead, back)]
                share = minimum(lengths[0] / (lengths[0] + lengths[1]), PULL)
                moves = (1.0 - share) * (moves + OVERSHOOT * ahead) + share * OVERSHOOT * back
                moves = minimum(maximum(moves, low), high)
                fooled = fools(point, y, self, point.outputs(leaves_of(moves)))[:, None]
                length = self._length(moves)
                closer = ops.logical_and(fooled, length < distance)
                best = ops.where(closer, moves, best)
                distance = ops.where(closer, length, distance)
                return ops.where(fooled, BACK * moves, moves), best, distance

            begin = minimum(maximum(self._begin(number, low), low), high)
            state = (begin, ops.zeros_like(low), ops.zeros_like(low[:, :1]) + FAR)
            _, best, distance = repeat(self.steps, step, state)
            return distance[:, 0] <= 1.0, leaves_of(best)

        return run

    def _begin(self, number, like):
        """Where a run begins: at the input, or of a restart half the radius away from it."""
        if self.restarts == 1:
            return ops.zeros_like(like)
        draw = keras.random.uniform if self.norm == "linf" else keras.random.normal
        ends = {"minval": -1.0, "maxval": 1.0} if self.norm == "linf" else {}
        noise = draw(ops.shape(like), dtype=like.dtype, seed=self.seed_generator, **ends)
        noise = 0.5 * noise / (self._length(noise) + GUARD)
        return ops.where(number % self.restarts > 0, noise, 0.0)

    def _length(self, moves):
        if self.norm == "linf":
            return ops.max(ops.abs(moves), axis=1, keepdims=True)
        return ops.sqrt(ops.sum(moves * moves, axis=1, keepdims=True))

    def _room(self, start):
        """How far each entry may be moved down and up, in units of the radius."""
        if self.bounds is None:
            far = FAR * ops.ones_like(_rows(start))
            return -far, far
        edges = ([per_channel(bound, s) - s for s in start] for bound in self.bounds)
        return tuple(_rows(in_radii(edge, self.epsilon)) for edge in edges)


def onto_plane(normal, gap, low, high, norm):
    """The shortest moves between `low` and `high` that change `<normal, ·>` by `-gap`, or by as much as they can.

    Each entry goes as far as the others until it reaches its bound (in L2, in proportion to the normal): up to a
    common length at which the sum of the changes is the gap. That is piecewise linear in the length.
    """
    scale = ops.max(ops.abs(normal), axis=1, keepdims=True)
    scale = ops.where(scale > 0, scale, 1.0)
    normal, gap = normal / scale, gap / scale
    sign = -ops.sign(gap) * ops.sign(normal)
    gap, steepness = ops.abs(gap), ops.abs(normal)
    room = maximum(ops.where(sign > 0, high, -low), 0.0)
    if norm == "linf":
        speed, ends = steepness, minimum(room, FAR)
    else:
        speed = steepness * steepness
        ends = minimum(room / maximum(steepness, TINY), FAR)
    order = ops.argsort(ends, axis=1)
    stops = ops.take_along_axis(ends, order, axis=1)
    speeds = ops.take_along_axis(speed, order, axis=1)
    done = cumsum(speeds * stops)  # By entries that have reached their bound.
    moving = ops.flip(cumsum(ops.flip(speeds, axis=1)), axis=1)
    moving = ops.concatenate([moving, ops.zeros_like(gap)], axis=1)
    done = ops.concatenate([ops.zeros_like(gap), done], axis=1)
    reached = done[:, 1:] + stops * moving[:, 1:]
    before = ops.sum(ops.cast(reached < gap, "int32"), axis=1, keepdims=True)
    rest = gap - ops.take_along_axis(done, before, axis=1)
    pace = ops.take_along_axis(moving, before, axis=1)
    length = ops.where(pace > 0, rest / ops.where(pace > 0, pace, 1.0), FAR)
    moves = minimum(maximum(length, 0.0), ends)
    return sign * (moves if norm == "linf" else moves * steepness)


def _like(rows, leaves):
    """One row for each sample as leaves again."""
    found, begin = [], 0
    for leaf in leaves:
        shape = ops.shape(leaf)
        end = begin + math.prod(shape[1:])
        found.append(ops.cast(ops.reshape(rows[:, begin:end], shape), leaf.dtype))
        begin = end
    return found


def _rows(leaves):
    """The leaves of each sample in one row."""
    return ops.concatenate([ops.reshape(leaf, (ops.shape(leaf)[0], -1)) for leaf in leaves], axis=1)
