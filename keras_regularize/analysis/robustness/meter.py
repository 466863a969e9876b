"""Robust accuracy, measured again and again."""

import keras
import numpy as np
from keras import tree

from keras_regularize.attacks.inputs import check_inputs
from keras_regularize.attacks.robustness import check_measurable, withstands
from keras_regularize.autodiff import backend
from keras_regularize.validation import check_integer


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
