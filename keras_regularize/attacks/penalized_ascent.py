"""Ascent of the loss against a price for the distance moved."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_regularize.attacks._criteria import criterion
from keras_regularize.attacks.attack import Attack, along_samples, ascent_direction, repeat
from keras_regularize.registration import export
from keras_regularize.validation import check_choice, check_integer, check_number


@export
class PenalizedAscent(Attack):
    r"""Worst inputs at a price: ascends the loss less $\gamma$ times the squared distance moved.

    $$x' = \arg\max_z\; \ell(z, y) - \gamma\,\|z - x\|_2^2$$

    by gradient ascent from $z = x$: $z \leftarrow z + \alpha\,\big(\nabla_z \ell(z, y) - 2\gamma\,(z - x)\big)$.
    This is the inner problem of Wasserstein distributionally robust training, with a price instead of a ball:
    samples that gain much from moving move far, others hardly. The problem is concave, and the ascent
    finds its solution, where $2\gamma$ exceeds the Lipschitz constant of $\nabla_z \ell$. Distances are per sample
    over all inputs; there are no bounds.

    Args:
        gamma: Price $\gamma$ of a squared distance of 1, at least 0; infinite for no perturbation, 0 for plain
            ascent, which nothing but the number of steps ends.
        step_size: Step $\alpha$, above 0 and at most $1/\gamma$, where the ascent would diverge. `None` for
            $1/(4\gamma)$, which halves the way to a fixed goal in each step; needed at $\gamma = 0$.
        steps: Number of steps, at least 0.
        loss: $\ell$: `"cross_entropy"`, or `"compiled"` for the model's own loss per sample.
        layer: Layer, or its name, whose output is perturbed instead of the inputs (token ids, say).
        from_logits: Whether the attacked model gives out logits. `None` asks its compiled loss, or of a model
            without one the activation of its last layer.
        inputs: Names (dictionary) or positions (list) of the inputs that are perturbed, the others staying as they
            are (they may be ids); all floating ones by default. Not together with `layer`.

    Call: `attack(model, x, y, gamma=None)` returns inputs like `x`. A given `gamma` `(batch,)` is the price for
    each sample; infinite ones leave their samples where they are.

    Raises:
        ValueError: If an argument is out of range, labels are missing, or no input is floating and no
            `layer` is given.

    Cost: `steps` forward passes and as many backward passes to the inputs, without weight gradients; with
    `layer` one more forward pass.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    x = np.random.default_rng(0).random((5, 4), dtype="float32")
    adversarial = kr.attacks.PenalizedAscent(gamma=1.0)(model, x, np.array([0, 1, 2, 0, 1]))
    ```

    Reference: Sinha, Namkoong and Duchi, *Certifying Some Distributional Robustness with Principled Adversarial
    Training*, ICLR 2018, arXiv:1710.10571. Differs from the authors' code in the step, which is constant here.
    """

    follows_direction = False
    remedy = ', or attack with `loss="compiled"`'

    def __init__(
        self,
        gamma: float = 1.0,
        step_size: float | None = None,
        steps: int = 15,
        loss: str = "cross_entropy",
        layer: Any = None,
        from_logits: bool | None = None,
        inputs: Sequence[str | int] | None = None,
    ):
        check_ascent(gamma, step_size, steps)
        super().__init__(layer=layer, from_logits=from_logits, inputs=inputs)
        self.gamma = float(gamma)
        self.step_size = None if step_size is None else float(step_size)
        self.steps = int(steps)
        self.loss = check_choice("loss", loss, ("cross_entropy", "compiled"))

    def search(self, point, y, gamma=None):
        value = criterion(self.loss, point, y, self)
        if isinstance(gamma, np.ndarray):
            check_ascent(float(np.min(gamma)), self.step_size, self.steps)
        gamma = ops.cast(self.gamma if gamma is None else gamma, "float32")
        moves = gamma < float("inf")
        gamma = ops.where(moves, gamma, 1.0)
        size = self.step_size
        if size is None:
            size = ops.where(gamma > 0, 0.25 / ops.where(gamma > 0, gamma, 1.0), 0.0)
        size = ops.where(moves, size, 0.0)
        shrink = 1.0 - 2.0 * gamma * size

        def step(_, moved):
            leaves = [x + d for x, d in zip(point.start, moved)]
            gradient = ascent_direction(point, value, leaves)
            return tuple(
                ops.cast(along_samples(shrink, d), d.dtype) * d
                + ops.cast(along_samples(size, g), g.dtype) * g
                for d, g in zip(moved, gradient)
            )

        # The distance moved is kept apart from the inputs, which may be large against it.
        moved = repeat(self.steps, step, tuple(ops.zeros_like(x) for x in point.start))
        return [x + d for x, d in zip(point.start, moved)]


def check_ascent(gamma, step_size, steps, name="gamma"):
    """Raises unless the ascent at this price is defined and does not diverge by itself."""
    check_number(name, gamma, minimum=0)
    check_integer("steps", steps, minimum=0)
    if step_size is None:
        if gamma == 0:
            raise ValueError(
                f"Plain ascent, `{name}=0`, needs a `step_size`. Received: {name}=0, step_size=None"
            )
        return
    check_number("step_size", step_size, minimum=0)
    if step_size == 0 or (gamma * step_size > 1 and gamma != float("inf")):
        raise ValueError(
            f"`step_size` must be above 0 and at most 1 / {name}, beyond which the ascent diverges. "
            f"Received: step_size={step_size!r}, {name}={gamma!r}"
        )
