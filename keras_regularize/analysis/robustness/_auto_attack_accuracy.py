"""Robust accuracy by AutoAttack, as it is reported in papers."""

import dataclasses
import time
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_regularize.analysis._samples import whole
from keras_regularize.attacks.attack import Attack
from keras_regularize.attacks.auto_attack import AutoAttack
from keras_regularize.attacks.inputs import check_inputs
from keras_regularize.attacks.runs import OneRun
from keras_regularize.autodiff import backend
from keras_regularize.autodiff.compiled_losses import per_sample
from keras_regularize.scores import class_outputs, predicts_label
from keras_regularize.validation import check_integer

#: A fall by Square alone that the authors warn of.
SUSPICIOUS = 0.002


@dataclasses.dataclass(frozen=True, eq=False)
class AutoAttackAccuracy:
    """What `auto_attack_accuracy` measures; `print` shows it as a table.

    Attributes:
        accuracy: Accuracy without attack.
        after: Robust accuracy after each attack, by its name and in their order: the share of samples that
            withstand it and all before it.
        seconds: How long each attack took.
        robust: Whether each sample withstands all attacks, `(n,)`.
        x_adversarial: The inputs, in the structure of `x`, with a misclassified one in the place of each that has
            been found.
    """

    accuracy: float
    after: dict[str, float]
    seconds: dict[str, float]
    robust: np.ndarray
    x_adversarial: Any

    @property
    def robust_accuracy(self) -> float:
        """Accuracy under all attacks."""
        return float(np.mean(self.robust))

    @property
    def gradients_are_masked(self) -> bool:
        """Whether Square, which uses no gradients, fooled what attacks by gradients did not: see `Square`."""
        names = list(self.after)
        if "square" not in names[1:]:
            return False
        before = self.after[names[names.index("square") - 1]]
        return before - self.after["square"] > SUSPICIOUS

    def to_dict(self) -> dict[str, Any]:
        """The numbers as plain values, without the inputs."""
        return {
            "accuracy": self.accuracy,
            "after": dict(self.after),
            "robust_accuracy": self.robust_accuracy,
            "seconds": dict(self.seconds),
        }

    def __str__(self) -> str:
        lines = [f"{'attack':<12} {'robust, %':>10} {'seconds':>10}"]
        lines.append(f"{'none':<12} {100 * self.accuracy:>10.2f}")
        for name, accuracy in self.after.items():
            lines.append(f"{name:<12} {100 * accuracy:>10.2f} {self.seconds[name]:>10.1f}")
        if self.gradients_are_masked:
            lines.append("Square found what attacks by gradients did not: they may be masked.")
        return "\n".join(lines)


def auto_attack_accuracy(
    model: keras.Model,
    x: Any,
    y: Any = None,
    attack: AutoAttack | None = None,
    batch_size: int = 128,
    verbose: int = 1,
) -> AutoAttackAccuracy:
    r"""Robust accuracy by AutoAttack, and what each of its attacks contributes.

    The attacks run one after the other, each on the samples that withstood all before, and within an attack each
    target on those that withstood the targets before. The figure of robustness leaderboards is
    `result.robust_accuracy`, for the full test set, with the epsilon and norm of the leaderboard.

    Attacks and model run in inference mode, compiled like `model.predict`. The model is not changed; the
    random starts of the attack move on, as every use of them does.

    Args:
        model: A classifier with one output `(batch, classes)` or `(batch, 1)`, or a wrapper of one.
        x: Inputs as arrays, in any nested structure the model takes; or a finite dataset of batches
            `(inputs, labels)` in any form that `fit` takes.
        y: Class ids `(n,)` or `(n, 1)`, or one-hot or soft rows `(n, classes)`, of which the largest entry is
            the label. `None` with a dataset.
        attack: The attack; `None` for `kr.attacks.AutoAttack()`.
        batch_size: Number of samples attacked at once, at least 1.
        verbose: 0 for silence, 1 for a progress bar.

    Returns:
        A frozen dataclass with `accuracy`, `after`, `robust_accuracy`, the mask `robust`, `x_adversarial` and
        `to_dict()`. Printed, it is a table.

    Raises:
        ValueError: If `attack` is no `AutoAttack`, inputs lie farther than its `epsilon` outside its bounds,
            inputs or the number of classes do not suit its attacks, labels and outputs do not fit, or there is
            no sample.

    Cost: that of `AutoAttack`, of samples that are misclassified only until they are.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(5)])
    x, y = np.random.default_rng(0).random((20, 8, 8, 1)), np.arange(20) % 5
    attack = kr.attacks.AutoAttack(epsilon=0.1, steps=5, queries=20, seed=0)
    print(kr.analysis.auto_attack_accuracy(model, x, y, attack, verbose=0))
    ```

    Reference: Croce and Hein, *Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse
    Parameter-free Attacks*, ICML 2020, arXiv:2003.01690; the leaderboard: Croce and others, *RobustBench: a
    standardized adversarial robustness benchmark*, NeurIPS 2021, arXiv:2010.09670.
    """
    check_integer("batch_size", batch_size, minimum=1)
    attack = AutoAttack() if attack is None else attack
    if not isinstance(attack, AutoAttack):
        raise ValueError(
            "`attack` must be a `kr.attacks.AutoAttack`; others are for `kr.analysis.robust_accuracy`. "
            f"Received: attack={attack!r}"
        )
    x, y = whole(x, y)
    size = len(tree.flatten(y)[0])
    if size == 0:
        raise ValueError("`x` and `y` must have at least one sample. Received none.")
    check_inputs(attack, x)
    if not model.built:
        model(tree.map_structure(lambda leaf: leaf[:1], x))
    batch_size = min(batch_size, size)

    clean = _Searching(model, attack, None)
    found, classes = clean.found(x, y, 0, batch_size)
    robust = ~found["fooled"]
    adversarial = tree.map_structure(np.array, x)
    accuracy, after, seconds = float(np.mean(robust)), {}, {}
    num_runs = {name: m.num_runs(lambda: classes) for name, m in attack.members.items()}
    total = int(robust.sum()) * sum(num_runs.values())
    progress = _Progress(total, verbose)
    for name, member in attack.members.items():
        begin, searching = time.perf_counter(), _Searching(model, attack, member)
        for number in range(num_runs[name]):
            rows = np.flatnonzero(robust)
            if len(rows):
                part = tree.map_structure(lambda leaf, rows=rows: leaf[rows], (x, y))
                found, _ = searching.found(part[0], part[1], number, batch_size, progress)
                fooled = rows[found["fooled"]]
                robust[fooled] = False
                for kept, new in zip(tree.flatten(adversarial), tree.flatten(found["x"])):
                    kept[fooled] = new[found["fooled"]]
            progress.end_run(total // sum(num_runs.values()), float(np.mean(robust)))
        after[name] = float(np.mean(robust))
        seconds[name] = time.perf_counter() - begin
    return AutoAttackAccuracy(accuracy, after, seconds, robust, adversarial)


class _Progress(keras.callbacks.Callback):
    """A bar over the searches, one per run and sample; those of samples that are fooled by then count as done."""

    def __init__(self, total, verbose):
        super().__init__()
        self.bar = keras.utils.Progbar(
            total, verbose=verbose, unit_name="search", stateful_metrics=["robust accuracy"]
        )
        self.total, self.done, self.batch_size = total, 0, 0

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        """Called by Keras."""
        self.bar.update(min(self.done + (batch + 1) * self.batch_size, self.total - 1))

    def end_run(self, searches, robust_accuracy):
        self.done += searches
        self.bar.update(self.done, [("robust accuracy", robust_accuracy)])


class _Searching(keras.Model):
    """Maps `{"x": …, "y": …, "number": …}` to what a run of an attack makes of it, `{"x": …, "fooled": …}`."""

    def __init__(self, model: keras.Model, attack: Attack, member: Attack | None):
        super().__init__(name="auto_attack", autocast=False)
        self.model = model
        self.from_logits = attack.from_logits
        self.search = None if member is None else OneRun(member)
        self.seeds = [attack.seed_generator]  # Tracked, so that JAX threads its state.
        self.classes = 0
        modes = ("run_eagerly", "jit_compile") if model.compiled else ()
        self.compile(**{mode: getattr(model, mode) for mode in modes})
        self.build(None)

    def build(self, input_shape):
        """Nothing to create; without it Keras would call the model, hence the attack, once eagerly."""

    def call(self, inputs):
        x, y = inputs["x"], inputs["y"]
        moved = (
            x if self.search is None else self.search(self.model, x, y, number=inputs["number"][0])
        )
        outputs = self.model(moved, training=False)
        self.classes = max(class_outputs(outputs, self.model).shape[-1], 2)
        hits = predicts_label(y, outputs, self.model, self.from_logits)
        result = {"fooled": per_sample(ops.cast(hits, "float32")) < 1}
        return result if self.search is None else {**result, "x": moved}

    def found(
        self, x: Any, y: Any, number: int, batch_size: int, progress: Any = None
    ) -> tuple[dict[str, Any], int]:
        """What `call` gives for all samples, and the number of classes."""
        size = len(tree.flatten(y)[0])
        if size % batch_size and not backend.RUNS_ONE_BY_ONE:
            # Rows again up to whole batches: a last, smaller one would be compiled anew.
            rows = np.arange(-(-size // batch_size) * batch_size) % size
            x, y = tree.map_structure(lambda leaf: leaf[rows], (x, y))
        data = {"x": x, "y": y, "number": np.full(len(tree.flatten(y)[0]), number, "int32")}
        callbacks = [] if progress is None else [progress]
        if progress is not None:
            progress.batch_size = batch_size
        with backend.keep_weights_on_error(self):
            found = self.predict(data, batch_size=batch_size, verbose=0, callbacks=callbacks)
        return tree.map_structure(lambda leaf: leaf[:size], found), self.classes
