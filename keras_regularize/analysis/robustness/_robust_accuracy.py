"""How often a classifier is right although its inputs are attacked."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_regularize.attacks.inputs import check_inputs
from keras_regularize.attacks.robustness import check_measurable, withstands
from keras_regularize.autodiff import backend
from keras_regularize.validation import check_integer


def robust_accuracy(
    model: keras.Model,
    x: Any,
    y: Any,
    attack: Callable | Sequence[Callable],
    batch_size: int = 128,
) -> float:
    r"""Accuracy on attacked inputs: the share of samples that no given attack gets misclassified.

    $$\frac1n \sum_i \min_{a \in \{\mathrm{id},\, a_1, a_2, \dots\}} \big[\arg\max_k f_k(a(x_i, y_i)) = y_i\big]$$

    The clean input counts as one of the attacks, since it lies in every ball around itself; robust accuracy
    therefore never exceeds accuracy. It is an upper bound of the accuracy in the worst case: a stronger attack
    (more steps, restarts, another loss) can only lower it, so report the attack beside the number.

    Attacks and model run in inference mode, compiled like `model.predict`. The model is not changed; the
    random starts of attacks move on, as every use of them does.

    Args:
        model: A classifier with one output `(batch, classes)` or `(batch, 1)`, or a wrapper of one.
        x: Inputs as arrays, in any nested structure the model takes.
        y: Class ids `(n,)` or `(n, 1)`, or one-hot or soft rows `(n, classes)`, of which the largest entry is
            the label. Further axes before the classes are positions, which count one by one.
        attack: A callable `attack(model, x, y)` that returns perturbed inputs, such as
            `kr.attacks.PGD(...)`, or a list of several: a sample must then withstand all.
        batch_size: Number of samples attacked at once, at least 1.

    Returns:
        A float between 0 and 1.

    Raises:
        ValueError: If `attack` is no attack, one that looks for a direction instead of an input
            (`VirtualAdversarial`) or for a target, if inputs lie farther than its `epsilon` outside its bounds,
            if `batch_size` is not positive, if there is no sample, or if labels and outputs do not fit.

    Cost: per attack its own passes and one forward pass, and one forward pass for the clean inputs.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    x = np.random.default_rng(0).random((20, 4))
    y = np.arange(20) % 3
    attack = kr.attacks.PGD(epsilon=0.1, step_size=0.03, steps=5, seed=0)
    kr.analysis.robust_accuracy(model, x, y, [attack, kr.attacks.FGSM(epsilon=0.1)])
    ```

    Reference: The measure is that of Madry, Makelov, Schmidt, Tsipras and Vladu, *Towards Deep Learning Models
    Resistant to Adversarial Attacks*, ICLR 2018, arXiv:1706.06083; the worst case over several attacks that of
    Croce and Hein, *Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free
    Attacks*, ICML 2020, arXiv:2003.01690.
    """
    return RobustAccuracyMeter(model, attack, batch_size)(x, y)


def checked_attacks(attack, batch_size):
    """The attacks as a list, after a check of what `robust_accuracy` takes."""
    check_integer("batch_size", batch_size, minimum=1)
    attacks = list(attack) if isinstance(attack, (list, tuple)) else [attack]
    for candidate in attacks:
        if not callable(candidate):
            raise ValueError(
                "`attack` must be a callable that returns perturbed inputs, such as `kr.attacks.PGD()`, or a "
                f"list of them. Received: attack={attack!r}"
            )
        check_measurable("attack", candidate)
    if not attacks:
        raise ValueError(f"`attack` must name at least one attack. Received: attack={attack!r}")
    return attacks


class RobustAccuracyMeter:
    """`robust_accuracy` of a model that goes on training: called again, it compiles nothing anew."""

    def __init__(self, model, attack, batch_size):
        self.model, self.batch_size = model, batch_size
        self.attacks = checked_attacks(attack, batch_size)
        self._attacked = None

    def __call__(self, x, y):
        batch_size = self.batch_size
        x, y = tree.map_structure(np.asarray, (x, y))
        size = len(tree.flatten(y)[0])
        if size == 0:
            raise ValueError("`x` and `y` must have at least one sample. Received none.")
        if size > batch_size and size % batch_size:
            # Rows again up to whole batches: a last, smaller one would be compiled anew.
            rows = np.arange(-(-size // batch_size) * batch_size) % size
            x, y = tree.map_structure(lambda leaf: leaf[rows], (x, y))
        for attack in self.attacks:
            check_inputs(attack, x)
        if not self.model.built:
            self.model(tree.map_structure(lambda leaf: leaf[:1], x))
        if self._attacked is None:
            self._attacked = _Attacked(self.model, self.attacks)
        with backend.keep_weights_on_error(self._attacked):
            hits = self._attacked.predict({"x": x, "y": y}, batch_size=batch_size, verbose=0)
        return float(np.mean(hits[:size]))


class _Attacked(keras.Model):
    """Maps `{"x": …, "y": …}` to whether the label is predicted on clean and attacked inputs, as 1.0 or 0.0."""

    def __init__(self, model, attacks):
        super().__init__(name="robust_accuracy", autocast=False)
        self.model = model
        self.attacks = attacks
        # Tracked, so that JAX threads their state.
        self.seeds = [a.seed_generator for a in attacks if hasattr(a, "seed_generator")]
        modes = ("run_eagerly", "jit_compile") if model.compiled else ()
        self.compile(**{mode: getattr(model, mode) for mode in modes})
        self.build(None)

    def build(self, input_shape):
        """Nothing to create; without it Keras would call the model, hence all attacks, once eagerly."""

    def call(self, inputs):
        x = inputs["x"]
        outputs = self.model(x, training=False)
        return withstands(self.model, x, inputs["y"], outputs, self.attacks)
