"""Everything that can go wrong with a classifier at once: corruptions, attacks, foreign data, its confidence."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_regularize.analysis._samples import whole
from keras_regularize.analysis.calibration._reliability_diagram import reliability_diagram
from keras_regularize.analysis.calibration._samples import class_probabilities, class_samples
from keras_regularize.analysis.out_of_distribution._out_of_distribution_scores import (
    OutOfDistributionScores,
    out_of_distribution_scores,
)
from keras_regularize.analysis.out_of_distribution._scores_of_outputs import (
    energy_score,
    entropy_score,
    max_softmax_score,
)
from keras_regularize.analysis.robustness._corrupt import CORRUPTIONS, corrupt, suitable
from keras_regularize.analysis.robustness.meter import RobustAccuracyMeter
from keras_regularize.attacks.bounds import Bounds
from keras_regularize.attacks.gradient_sign import FGSM
from keras_regularize.attacks.projected_gradient import PGD
from keras_regularize.metrics.calibration.aurc import AURC
from keras_regularize.metrics.calibration.brier_score import BrierScore
from keras_regularize.numerics import TINY
from keras_regularize.scores import class_outputs, gives_logits, one_label
from keras_regularize.validation import check_choice, check_integer

SEVERITIES = (1, 2, 3, 4, 5)


@dataclasses.dataclass(frozen=True, eq=False)
class RobustnessReport:
    """What `robustness_report` measures; `print` shows it as a table. What was switched off is empty.

    Attributes:
        size: Number of samples.
        clean: On the data themselves: `accuracy`, `negative_log_likelihood`, `brier_score`,
            `expected_calibration_error`, `maximum_calibration_error` and `aurc`.
        corruptions: Accuracy on corrupted data, `{name: {severity: accuracy}}`.
        attacks: Accuracy under each attack, `{name: accuracy}`.
        out_of_distribution: How well each score tells other data, `{data: {score: OutOfDistributionScores}}`.
    """

    size: int
    clean: dict[str, float]
    corruptions: dict[str, dict[int, float]]
    attacks: dict[str, float]
    out_of_distribution: dict[str, dict[str, OutOfDistributionScores]]

    def mean_corruption_error(self, reference: "RobustnessReport | None" = None) -> float:
        r"""Mean over the corruptions of the error, summed over severities; NaN without corruptions.

        Args:
            reference: Report of another model on the same corruptions, whose errors divide those of each one, as
                ImageNet-C has it with AlexNet: corruptions that are hard for all then weigh no more.

        Returns:
            The mean error between 0 and 1, or its ratio to that of the reference.
        """
        errors = self._errors()
        if reference is None:
            counts = [len(row) for row in self.corruptions.values()]
            return float(np.mean([e / n for e, n in zip(errors.values(), counts)] or [np.nan]))
        others = reference._errors()
        if {k: list(row) for k, row in self.corruptions.items()} != {
            k: list(row) for k, row in reference.corruptions.items()
        }:
            raise ValueError(
                "`reference` must be a report on the same corruptions and severities, which are "
                f"{list(self.corruptions)}. Received: {list(reference.corruptions)}"
            )
        ratios = [e / others[name] if others[name] else np.nan for name, e in errors.items()]
        return float(np.mean(ratios or [np.nan]))

    def _errors(self):
        return {name: sum(1.0 - a for a in row.values()) for name, row in self.corruptions.items()}

    def to_dict(self) -> dict[str, Any]:
        """All numbers as plain values, in nested dictionaries that can be saved as JSON."""
        return {
            "size": self.size,
            "clean": dict(self.clean),
            "corruptions": {
                name: {str(severity): accuracy for severity, accuracy in row.items()}
                for name, row in self.corruptions.items()
            },
            "mean_corruption_error": self.mean_corruption_error() if self.corruptions else None,
            "attacks": dict(self.attacks),
            "out_of_distribution": {
                data: {score: dict(found._asdict()) for score, found in row.items()}
                for data, row in self.out_of_distribution.items()
            },
        }

    def __str__(self) -> str:
        clean = self.clean
        lines = [
            f"{self.size} samples, accuracy {100 * clean['accuracy']:.1f} %",
            f"  likelihood {clean['negative_log_likelihood']:.4f} (negative log), "
            f"Brier score {clean['brier_score']:.4f}, AURC {clean['aurc']:.4f}",
            f"  calibration error {clean['expected_calibration_error']:.4f}, "
            f"at most {clean['maximum_calibration_error']:.4f}",
        ]
        if self.corruptions:
            severities = list(next(iter(self.corruptions.values())))
            head = "".join(f"{severity:>7}" for severity in severities)
            lines += ["", f"{'accuracy, %, at severity':<26}{head}{'mean':>8}"]
            for name, row in self.corruptions.items():
                cells = "".join(f"{100 * accuracy:>7.1f}" for accuracy in row.values())
                mean = 100 * np.mean(list(row.values()))
                lines.append(f"{_short(name, 25):<26}{cells}{mean:>8.1f}")
            lines.append(f"mean corruption error {100 * self.mean_corruption_error():.1f} %")
        if self.attacks:
            lines += ["", f"{'under attack':<60}{'accuracy, %':>14}"]
            lines += [f"{_short(n, 59):<60}{100 * a:>14.1f}" for n, a in self.attacks.items()]
        if self.out_of_distribution:
            lines += [
                "",
                f"{'other data, by score':<38}{'AUROC':>8}{'AUPR in':>9}{'out':>7}{'FPR95':>8}",
            ]
            for data, scores in self.out_of_distribution.items():
                for score, found in scores.items():
                    cells = (
                        f"{100 * found.auroc:>8.1f}{100 * found.aupr_in:>9.1f}"
                        f"{100 * found.aupr_out:>7.1f}{100 * found.fpr95:>8.1f}"
                    )
                    lines.append(f"{_short(f'{data}, {score}', 37):<38}{cells}")
        return "\n".join(lines)

    def plot(self, ax: Any = None) -> Any:
        """Draws accuracies: clean, of each corruption from the least severity to the most, under each attack.

        Args:
            ax: Axes of Matplotlib to draw on; `None` for the current ones.

        Returns:
            The axes.
        """
        import matplotlib.pyplot as plt

        ax = plt.gca() if ax is None else ax
        rows: list[tuple[str, list[float], str]] = [
            ("clean", [self.clean["accuracy"]], "tab:gray"),
            *(
                (name.replace("_", " "), list(row.values()), "tab:blue")
                for name, row in self.corruptions.items()
            ),
            *((_short(name, 30), [accuracy], "tab:red") for name, accuracy in self.attacks.items()),
        ]
        for place, (_, values, color) in enumerate(rows):
            ax.barh(place, np.mean(values), color=color, alpha=0.35)
            ax.plot(
                values, [place] * len(values), "|", color=color, markersize=9, markeredgewidth=1.5
            )
        ax.axvline(self.clean["accuracy"], color="gray", linestyle=":", linewidth=1)
        ax.set_yticks(range(len(rows)), [name for name, _, _ in rows])
        ax.invert_yaxis()
        ax.set(xlim=(0, 1), xlabel="accuracy: mean (bar), at each severity (lines)")
        ax.spines[["top", "right"]].set_visible(False)
        return ax


def robustness_report(
    model: keras.Model,
    x: Any,
    y: Any = None,
    out_of_distribution: Any = None,
    corruptions: Sequence[str] | None = None,
    severities: Sequence[int] = SEVERITIES,
    attacks: Mapping[str, Callable] | Sequence[Callable] | None = None,
    bounds: Bounds = (0.0, 1.0),
    num_bins: int = 15,
    from_logits: bool | None = None,
    batch_size: int = 128,
    seed: int = 0,
    verbose: int = 1,
) -> RobustnessReport:
    r"""Measures a classifier on corrupted, attacked and foreign data, and how far its confidence can be believed.

    - **Clean**: accuracy, negative log-likelihood, Brier score, calibration errors, and the area under the curve
      of risk and coverage.
    - **Corruptions**: accuracy on the data as `corrupt` changes them, at each severity.
    - **Attacks**: accuracy under each attack by itself, as `robust_accuracy` has it.
    - **Other data**: how well `max_softmax_score`, `entropy_score` and, of logits, `energy_score` tell them from
      `x`.

    The model runs in inference mode and is not changed.

    Args:
        model: A classifier with one output `(batch, classes)` or `(batch, 1)`, or a wrapper of one.
        x: Inputs as arrays, in any nested structure the model takes; or a finite dataset of batches
            `(inputs, labels)` in any form that `fit` takes, whose sample weights are left out.
        y: Class ids `(n,)` or `(n, 1)`, or one-hot or soft rows `(n, classes)`, of which the largest entry is
            the label. `None` with a dataset.
        out_of_distribution: Inputs of other data, or a dictionary of several by name; `None` for none.
        corruptions: Names out of `kr.analysis.CORRUPTIONS`; `None` for all that the data can have (images all of
            them, `jpeg_compression` where Pillow is installed; other data noise, brightness and contrast), `()`
            for none.
        severities: Numbers from 1 to 5.
        attacks: Attacks by name, or a list of them; `None` for `FGSM()` and `PGD()`, both with a radius of 8/255
            of the range of `bounds`; `()` for none.
        bounds: Smallest and largest possible input, each a number or a list of one for each channel.
        num_bins: Number of bins of the calibration errors, a positive integer.
        from_logits: Whether the model gives out logits. `None` asks its compiled loss, or of a model without one
            the activation of its last layer.
        batch_size: Number of samples at once, at least 1.
        seed: Seed of corruptions and of the default attacks, a non-negative integer.
        verbose: 0 for silence, 1 for a progress bar.

    Returns:
        A frozen dataclass with `clean`, `corruptions`, `attacks`, `out_of_distribution`,
        `mean_corruption_error(reference=None)`, `to_dict()`, and `plot(ax=None)`, which needs Matplotlib.
        Printed, it is a table of at most 80 columns.

    Raises:
        ValueError: If an argument is out of range, there is no sample, inputs do not lie in `bounds`,
            corruptions are asked for of inputs that are several arrays or no images, an attack is none, or
            labels and outputs do not fit.

    Cost: a pass for the data, for other data, and for each corruption and severity; that of the attacks, 12
    forward and 11 backward passes by default.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(5)])
    generator = np.random.default_rng(0)
    x, y = generator.random((20, 8, 8, 1)), np.arange(20) % 5
    report = kr.analysis.robustness_report(
        model, x, y, corruptions=["gaussian_noise", "fog"], severities=[1, 5],
        out_of_distribution={"black": np.zeros((10, 8, 8, 1))}, verbose=0,
    )
    print(report)  # report.plot() draws it.
    ```

    Reference: Sanghyuk Chun, Seong Joon Oh, Sangdoo Yun, Dongyoon Han, Junsuk Choe and Youngjoon Yoo, *An
    Empirical Evaluation on Robustness and Uncertainty of Regularization Methods*, ICML Workshops 2019,
    arXiv:2003.03879; corruptions and their mean error: Dan Hendrycks and Thomas Dietterich, *Benchmarking Neural
    Network Robustness to Common Corruptions and Perturbations*, ICLR 2019, arXiv:1903.12261.
    """
    check_integer("batch_size", batch_size, minimum=1)
    check_integer("seed", seed, minimum=0)
    severities = [check_integer("severities", s, minimum=1, maximum=5) for s in severities]
    x, y = whole(x, y)
    if not len(tree.flatten(y)[0]):
        raise ValueError("`x` and `y` must have at least one sample. Received none.")
    names = _chosen_corruptions(x, corruptions if severities else ())
    meters = {
        name: RobustAccuracyMeter(model, attack, batch_size)
        for name, attack in _named_attacks(attacks, bounds, seed).items()
    }
    others = _named_data(out_of_distribution)
    steps = 1 + len(names) * len(severities) + len(meters) + len(others)
    bar = keras.utils.Progbar(steps, verbose=verbose, unit_name="measurement")

    def predictions(inputs):
        outputs = model.predict(inputs, batch_size=batch_size, verbose=0)
        return np.asarray(ops.convert_to_numpy(class_outputs(outputs, model)), "float64")

    outputs = predictions(x)
    logits = gives_logits(model, from_logits)
    rows, scores = class_samples(one_label(y, outputs, model), outputs)
    clean = _clean_measures(rows, scores, logits, num_bins)
    bar.add(1)
    corrupted: dict[str, dict[int, float]] = {name: {} for name in names}
    for name in names:
        for severity in severities:
            found = predictions(corrupt(x, name, severity, seed, bounds))
            corrupted[name][severity] = _accuracy(rows, found.reshape(scores.shape), logits)
            bar.add(1)
    attacked = {}
    for name, meter in meters.items():
        attacked[name] = meter(x, y)
        bar.add(1)
    told = {}
    for name, data in others.items():
        told[name] = _told_apart(outputs, predictions(data), logits)
        bar.add(1)
    return RobustnessReport(len(tree.flatten(y)[0]), clean, corrupted, attacked, told)


def _chosen_corruptions(x, corruptions):
    single = isinstance(x, np.ndarray) and x.ndim > 1
    if corruptions is None:
        return suitable(x) if single and x.dtype.kind in "fu" else ()
    if isinstance(corruptions, str):
        raise ValueError(f"`corruptions` must be a list. Received: corruptions={corruptions!r}")
    if len(corruptions) and not single:
        raise ValueError(
            "Only inputs of one array can be corrupted; pass `corruptions=()`. Received: "
            f"x={tree.map_structure(np.shape, x)}"
        )
    return tuple(check_choice("corruptions", name, CORRUPTIONS) for name in corruptions)


def _named_attacks(attacks, bounds, seed):
    if attacks is None:
        low, high = (np.asarray(bound, "float64") for bound in bounds)
        radius = (8 / 255 * (high - low)).tolist()
        step = (2 / 255 * (high - low)).tolist()
        return {
            "FGSM, 8/255": FGSM(radius, bounds=bounds),
            "PGD, 8/255, 10 steps": PGD(radius, step, bounds=bounds, seed=seed),
        }
    if isinstance(attacks, Mapping):
        return dict(attacks)
    named: dict[str, Any] = {}
    for attack in attacks if isinstance(attacks, (list, tuple)) else [attacks]:
        name = type(attack).__name__
        same = sum(key.split(" (")[0] == name for key in named)
        named[f"{name} ({same + 1})" if same else name] = attack
    return named


def _named_data(data):
    if data is None:
        return {}
    return dict(data) if isinstance(data, Mapping) else {"other": data}


def _accuracy(rows, scores, logits):
    p = class_probabilities(scores, logits)
    return float(np.mean(np.take_along_axis(rows, p.argmax(-1)[:, None], 1)[:, 0] == rows.max(-1)))


def _clean_measures(rows, scores, logits, num_bins):
    p = class_probabilities(scores, logits)
    diagram = reliability_diagram(rows, p, num_bins)
    measures = {
        "accuracy": _accuracy(rows, scores, logits),
        "negative_log_likelihood": float(-np.sum(rows * np.log(np.maximum(p, TINY)), -1).mean()),
    }
    for metric in (BrierScore(), AURC(capacity=len(rows))):
        metric.update_state(rows, p)
        measures[metric.name] = float(metric.result())
    measures["expected_calibration_error"] = diagram.expected_calibration_error
    measures["maximum_calibration_error"] = diagram.maximum_calibration_error
    return measures


def _told_apart(inside, outside, logits):
    scores = {
        "max softmax": lambda z: max_softmax_score(z, logits),
        "entropy": lambda z: entropy_score(z, logits),
    }
    if logits:
        scores["energy"] = energy_score
    return {
        name: out_of_distribution_scores(np.ravel(score(inside)), np.ravel(score(outside)))
        for name, score in scores.items()
    }


def _short(text, length):
    return text if len(text) <= length else text[: length - 1] + "…"
