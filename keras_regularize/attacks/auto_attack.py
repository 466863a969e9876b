"""The ensemble by which robustness is reported."""

from collections.abc import Sequence
from typing import Any

from keras import ops

from keras_regularize.attacks.attack import Attack, where_samples
from keras_regularize.attacks.auto_projected_gradient import APGD
from keras_regularize.attacks.boundary import FAB
from keras_regularize.attacks.bounds import Bounds
from keras_regularize.attacks.runs import AttackInRuns, fools
from keras_regularize.attacks.square import Square
from keras_regularize.registration import export
from keras_regularize.validation import check_choice

MEMBERS = ("apgd-ce", "apgd-t", "fab-t", "square")


@export
class AutoAttack(Attack):
    r"""AutoAttack: four attacks without anything to tune, the measure by which robust models are compared.

    | name | attack |
    |---|---|
    | `"apgd-ce"` | `APGD` on the cross-entropy |
    | `"apgd-t"` | `APGD` on the targeted ratio of logits, nine targets |
    | `"fab-t"` | `FAB`, the closest misclassified input, nine targets |
    | `"square"` | `Square`, which sees scores alone |

    A sample is robust if it withstands all of them. With the defaults this is the authors' version "standard".
    **`kr.analysis.auto_attack_accuracy` measures with it**, runs each attack on the samples that are still robust
    only, and says what each of them found. Called by itself, or as the attack of other functions, it runs
    all of them on all samples.

    Models that are random at inference, that adapt to their inputs, or whose gradients are masked need other
    attacks: a figure of AutoAttack is an upper bound of the robust accuracy, too.

    Args:
        epsilon: Radius of the ball, in units of the inputs, at least 0; or a list of one for each channel, as for
            images that were standardized channel by channel (`[8 / 255 / s for s in deviations]`). Channels are
            the last axis, or that of `keras.config.image_data_format()`. In $L_2$ radii are those of an ellipsoid,
            which is the ball before standardizing.
        norm: `"linf"` or `"l2"`.
        attacks: Names of the attacks, in the order in which they run; without `"square"` for inputs that are no
            images, without `"apgd-t"` for fewer than 4 classes.
        steps: Number of steps of each run of APGD and FAB, at least 1.
        queries: Number of queries of Square, at least 1.
        bounds: Smallest and largest allowed input, each a number or a list of one for each channel; or `None`,
            for inputs without any. The search is clipped into them; inputs farther than `epsilon` outside are an
            error.
        from_logits: Whether the attacked model gives out logits. `None` asks its compiled loss, or of a model
            without one the activation of its last layer.
        seed: Seed of the random starts and squares.

    Call: `attack(model, x, y)` returns inputs like `x`: of every sample a misclassified one, or itself where none
    was found.

    Raises:
        ValueError: If an argument is out of range, labels are missing, inputs are no images or lie farther than
            `epsilon` outside the bounds, or there are fewer than 4 classes.

    Cost: per sample that withstands all of them, about 100 + 9 · 100 forward and backward passes of APGD, 9 · 200
    forward and 9 · 100 backward ones of FAB, and 5000 forward passes of Square.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(5)])
    x = np.random.default_rng(0).random((5, 8, 8, 1), dtype="float32")
    attack = kr.attacks.AutoAttack(epsilon=0.1, steps=5, queries=20)
    adversarial = attack(model, x, np.array([0, 1, 2, 3, 4]))
    ```

    Reference: Croce and Hein, *Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse
    Parameter-free Attacks*, ICML 2020, arXiv:2003.01690.
    """

    def __init__(
        self,
        epsilon: float | Sequence[float] = 8 / 255,
        norm: str = "linf",
        attacks: Sequence[str] = MEMBERS,
        steps: int = 100,
        queries: int = 5000,
        bounds: Bounds | None = (0.0, 1.0),
        from_logits: bool | None = None,
        seed: int | None = None,
    ):
        super().__init__(from_logits=from_logits, seed=seed)
        if isinstance(attacks, str) or not len(attacks) or len(set(attacks)) < len(attacks):
            raise ValueError(
                f"`attacks` must be a list of different names out of {list(MEMBERS)}. "
                f"Received: attacks={attacks!r}"
            )
        self.attacks = [check_choice("attacks", name, MEMBERS) for name in attacks]
        shared: dict[str, Any] = {"norm": norm, "bounds": bounds, "from_logits": from_logits}
        ascent, square = APGD(epsilon, steps, **shared), Square(epsilon, queries, **shared)
        members: dict[str, AttackInRuns] = {
            "apgd-ce": ascent,
            "apgd-t": APGD(epsilon, steps, loss="targeted_dlr", **shared),
            "fab-t": FAB(epsilon, steps, **shared),
            "square": square,
        }
        #: The attacks by name.
        self.members = {name: members[name] for name in self.attacks}
        for member in self.members.values():
            member.seed_generator = self.seed_generator
        self.epsilon, self.norm, self.bounds = ascent.epsilon, ascent.norm, ascent.bounds
        self.steps, self.queries = ascent.steps, square.queries

    def search(self, point, y):
        best = point.start
        fooled = fools(point, y, self, point.outputs(best))
        for member in self.members.values():
            leaves = member.search(point, y)
            now = fools(point, y, self, point.outputs(leaves))
            best = where_samples(ops.logical_and(now, ops.logical_not(fooled)), leaves, best)
            fooled = ops.logical_or(fooled, now)
        return best
