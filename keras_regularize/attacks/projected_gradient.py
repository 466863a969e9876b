"""Iterated attack within a ball around the inputs."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_regularize.attacks._criteria import CRITERIA, criterion
from keras_regularize.attacks.attack import (
    Attack,
    along_samples,
    ascent_direction,
    per_sample_norm,
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
    uniform_noise,
)
from keras_regularize.attacks.channels import per_channel
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_integer, check_numbers


@export
class PGD(Attack):
    r"""Projected gradient descent: ascends the loss in steps, projected back into a ball around the input.

    In $L_\infty$, $x' \leftarrow \mathrm{clip}\big(\Pi_{x,\epsilon}(x' + \alpha\,\mathrm{sign}(g))\big)$ with
    $g = \nabla_{x'} \ell(x', y)$ and $\Pi$ the clipping to $[x - \epsilon, x + \epsilon]$. In $L_2$ the step is
    $\alpha g / (\|g\|_2 + 10^{-10})$ and $x' - x$ is scaled down to length $\epsilon$; norms are per sample over
    all inputs. The ball comes before the bounds. A targeted attack takes the labels it is called with as
    targets and descends.

    Args:
        epsilon: Radius of the ball, in units of the inputs, at least 0; or a list of one for each channel, as for
            images that were standardized channel by channel (`[8 / 255 / s for s in deviations]`). Channels are
            the last axis, or that of `keras.config.image_data_format()`. In $L_2$ radii are those of an ellipsoid,
            which is the ball before standardizing.
        step_size: Step $\alpha$, at least 0; or a list of one for each channel, to be scaled as `epsilon` is.
        steps: Number of steps, at least 0.
        norm: `"linf"` or `"l2"`.
        loss: What is maximized: `"cross_entropy"`; `"kl"`, the divergence $KL(p(x)\|p(x'))$ from the clean
            prediction (zero gradient at $x' = x$: start randomly); `"margin"`, $\max_{j\ne y} z_j - z_y$;
            `"dlr"`, the margin divided by $z_{(1)} - z_{(3)}$ (at least 3 classes); `"margin_shift"`, the
            squared change $\sum_j (D_j(x') - D_j(x))^2$ of all margins $D_j = z_y - z_j$ (start randomly too);
            `"compiled"`, the model's own loss per sample, for regression or several outputs.
        random_start: `True` or `"uniform"` for a uniform point of the ball (in $L_2$ a Gaussian direction
            with uniform radius), `"gaussian"` for noise of deviation 0.001, `False` for the input itself.
        restarts: Number of runs, at least 1; of several, each sample keeps the one that ends with the largest
            loss (the smallest, if targeted).
        bounds: Smallest and largest allowed input, each a number or a list of one for each channel; or `None`,
            for inputs without any. The search is clipped into them; inputs farther than `epsilon` outside are an
            error.
        layer: Layer, or its name, whose output is perturbed instead of the inputs (token ids, say);
            `bounds` must then be `None`.
        from_logits: Whether the attacked model gives out logits. `None` asks its compiled loss, or of a model
            without one the activation of its last layer.
        seed: Seed of the random start.
        targeted: Whether the labels of a call are targets, towards which the loss is descended (not for
            `"kl"`, which has no labels).
        inputs: Names (dictionary) or positions (list) of the inputs that are perturbed, the others staying as they
            are (they may be ids); all floating ones by default. Not together with `layer`.

    Call: `attack(model, x, y, initial_perturbation=None)` returns inputs like `x`. A given
    `initial_perturbation`, of the structure of `x`, replaces the random start.

    Raises:
        ValueError: If an argument is out of range, labels are missing, no input is floating and no `layer` is
            given, or inputs lie farther than `epsilon` outside the bounds.

    Cost: `steps` forward passes and as many backward passes to the inputs, without weight gradients; one
    more forward pass for `"kl"` or `"margin_shift"`, one for `layer`, and with restarts one per restart.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    x = np.random.default_rng(0).random((5, 4), dtype="float32")
    attack = kr.attacks.PGD(epsilon=0.1, step_size=0.03, steps=5)
    adversarial = attack(model, x, np.array([0, 1, 2, 0, 1]))
    ```

    Reference: Madry, Makelov, Schmidt, Tsipras and Vladu, *Towards Deep Learning Models Resistant to
    Adversarial Attacks*, ICLR 2018, arXiv:1706.06083. The `"kl"` loss: Zhang and others, *Theoretically
    Principled Trade-off between Robustness and Accuracy*, ICML 2019, arXiv:1901.08573; `"dlr"`: Croce and
    Hein, *Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free Attacks*,
    ICML 2020, arXiv:2003.01690.
    """

    remedy = ', or attack with `loss="compiled"`'

    def __init__(
        self,
        epsilon: float | Sequence[float] = 8 / 255,
        step_size: float | Sequence[float] = 2 / 255,
        steps: int = 10,
        norm: str = "linf",
        loss: str = "cross_entropy",
        random_start: bool | str = True,
        restarts: int = 1,
        bounds: Bounds | None = (0.0, 1.0),
        layer: Any = None,
        from_logits: bool | None = None,
        seed: int | None = None,
        targeted: bool = False,
        inputs: Sequence[str | int] | None = None,
    ):
        if targeted and loss == "kl":
            raise ValueError(
                "A targeted attack needs a loss of the labels, which 'kl' is not. "
                f"Received: targeted={targeted!r}, loss='kl'"
            )
        super().__init__(layer=layer, from_logits=from_logits, seed=seed, inputs=inputs)
        self.epsilon = check_numbers("epsilon", epsilon, minimum=0)
        self.step_size = check_numbers("step_size", step_size, minimum=0)
        self.steps = check_integer("steps", steps, minimum=0)
        self.norm = check_choice("norm", norm, ("linf", "l2"))
        self.loss = check_choice("loss", loss, CRITERIA)
        self.random_start = check_choice(
            "random_start", random_start, (False, True, "uniform", "gaussian")
        )
        self.restarts = check_integer("restarts", restarts, minimum=1)
        self.bounds = check_bounds(bounds, layer)
        self.targeted = bool(targeted)

    def search(self, point, y, initial_perturbation=None):
        value = criterion(self.loss, point, y, self, self.targeted)
        best = self._run(point, value, self._start(point, initial_perturbation))
        if self.restarts == 1:
            return best
        largest = value(point.outputs(best))
        for _ in range(self.restarts - 1):
            leaves = self._run(point, value, self._start(point, initial_perturbation))
            values = value(point.outputs(leaves))
            better = values > largest
            largest = ops.where(better, values, largest)
            best = where_samples(better, leaves, best)
        return best

    def _run(self, point, value, leaves):
        def step(_, leaves):
            gradient = ascent_direction(point, value, list(leaves))
            moved = self._ascend(leaves, gradient)
            return tuple(project(point.start, moved, self.norm, self.epsilon, self.bounds))

        return list(repeat(self.steps, step, tuple(leaves)))

    def _ascend(self, leaves, gradient):
        sizes = [per_channel(self.step_size, x) for x in leaves]
        if self.norm == "linf":
            return [x + a * ops.sign(g) for x, a, g in zip(leaves, sizes, gradient)]
        gradient = in_common_unit(gradient, self.epsilon)
        norms = per_sample_norm(gradient)
        return [x + a * g / (n + 1e-10) for x, a, g, n in zip(leaves, sizes, gradient, norms)]

    def _start(self, point, initial_perturbation):
        start = point.start
        if initial_perturbation is not None:
            given = point.aligned(initial_perturbation)
            return clip_to_bounds([s + p for s, p in zip(start, given)], self.bounds)
        if not self.random_start:
            return start
        seed = self.seed_generator
        if self.random_start == "gaussian":
            noise = [
                keras.random.normal(ops.shape(s), stddev=0.001, dtype=s.dtype, seed=seed)
                for s in start
            ]
        elif self.norm == "linf":
            noise = [uniform_noise(s, self.epsilon, seed) for s in start]
        else:
            noise = [keras.random.normal(ops.shape(s), dtype=s.dtype, seed=seed) for s in start]
            radius = keras.random.uniform(
                (ops.shape(start[0])[0],), dtype=start[0].dtype, seed=seed
            )
            noise = [
                per_channel(self.epsilon, n) * ops.cast(along_samples(radius, n), n.dtype) * n
                for n in unit_directions(noise)
            ]
        return clip_to_bounds([s + n for s, n in zip(start, noise)], self.bounds)
