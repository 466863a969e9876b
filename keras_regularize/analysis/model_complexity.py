"""How many samples a network can fit by the way it is trained."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import tree

from keras_regularize.analysis._objective import Objective
from keras_regularize.analysis._samples import whole
from keras_regularize.analysis.curvature._hessian_eigenvalues import eigenvalues_of
from keras_regularize.scores import compiled_loss, gives_logits, is_regression
from keras_regularize.validation import check_choice, check_integer, check_number

#: Epochs from one look at the fit to the next.
_EPOCHS = 10


class FitAttempt(NamedTuple):
    """A training of `effective_model_complexity`.

    Attributes:
        samples: Size of the subset.
        fitted: Whether it was fitted.
        converged: Whether training ended at a minimum or with a fit, not at the limit of epochs.
        epochs: Number of epochs.
    """

    samples: int
    fitted: bool
    converged: bool
    epochs: int


@dataclasses.dataclass(frozen=True)
class EffectiveModelComplexity:
    """What `effective_model_complexity` finds.

    Attributes:
        samples: The largest size of a subset that was fitted, 0 if none was.
        parameters: Number of trainable weights.
        ratio: Samples per weight.
        saturated: Whether all samples were fitted, so that there may be room for more.
        history: Every training, a named tuple of `samples`, `fitted`, `converged` and `epochs`.
    """

    samples: int
    parameters: int
    ratio: float
    saturated: bool
    history: list[FitAttempt]

    def plot(self, ax: Any = None) -> Any:
        """Draws the epochs of every training over its number of samples.

        Args:
            ax: Axes of Matplotlib to draw on; `None` for the current ones.

        Returns:
            The axes.
        """
        import matplotlib.pyplot as plt

        ax = plt.gca() if ax is None else ax
        for fitted, label, marker in ((True, "fitted", "o"), (False, "not fitted", "x")):
            points = [entry for entry in self.history if entry.fitted is fitted]
            ax.plot(
                [entry.samples for entry in points],
                [entry.epochs for entry in points],
                marker,
                label=label,
            )
        ax.axvline(self.parameters, color="gray", linewidth=0.8, label="weights")
        ax.set(xscale="log", xlabel="samples", ylabel="epochs")
        ax.legend()
        return ax


class LabelCapacityGap(NamedTuple):
    """What `label_capacity_gap` finds.

    Attributes:
        gap: By which share more samples are fitted with their labels than with random ones.
        given: The `effective_model_complexity` of the labels.
        random: That of random ones.
    """

    gap: float
    given: EffectiveModelComplexity
    random: EffectiveModelComplexity


def effective_model_complexity(
    build_model: Callable[[], keras.Model],
    x: Any,
    y: Any = None,
    *,
    labels: str = "given",
    initial_samples: int = 16,
    growth: float = 2.0,
    relative_tolerance: float = 0.05,
    accuracy: float = 1.0,
    max_error: float = 1e-3,
    max_epochs: int = 1000,
    batch_size: int = 32,
    check_minimum: bool = True,
    gradient_norm: float = 1e-3,
    loss_change: float = 1e-4,
    min_eigenvalue: float = -1e-2,
    repeats: int = 1,
    seed: int | None = 0,
) -> EffectiveModelComplexity:
    r"""The largest number of samples that a model fits perfectly, trained as it is.

    $$\max \{ n : \text{a fresh model, trained on a random subset of size } n, \text{ fits it} \}$$

    Sizes grow by a factor until one is not fitted; between that and the largest that was, the interval is halved.
    Each training has a fresh model and a fresh subset. It fails at a minimum without a fit: the gradient is
    short, the loss has stopped to change and the Hessian has no negative eigenvalue; else it goes on up to
    `max_epochs`. Whether a size is fitted is not monotone in it, as small subsets may fail by a bad start: the
    best success counts, and `repeats` gives each size more tries.

    Args:
        build_model: Function without arguments that returns a fresh, compiled model with one output. Seed Keras in
            it to draw the same starts again.
        x: Inputs as arrays, or a dataset of batches `(x, y)` as `fit` takes them.
        y: Targets, as the loss takes them; class ids or one-hot rows, 0 and 1 for a single output. `None` with a
            dataset.
        labels: `"given"`, or `"random"` to draw classes anew, evenly, for each training.
        initial_samples: The first size, at least 1.
        growth: Factor of sizes, above 1.
        relative_tolerance: Where to stop halving, relative to the size.
        accuracy: Share of a subset that must be classified right for a fit, above 0.
        max_error: For losses of regressions in its place, those that say nothing of classes: the largest mean
            squared error, relative to the variance of targets. Hinge losses are among them.
        max_epochs: Most epochs of a training. The fit is looked at every ten of them.
        batch_size: Batch size of `fit`.
        check_minimum: Whether a failure needs a look at the smallest eigenvalue.
        gradient_norm: Norm of the gradient of the mean loss below which it is short.
        loss_change: Relative change of the loss over ten epochs below which it has stopped.
        min_eigenvalue: What is no negative eigenvalue.
        repeats: Trainings of a size that must fail for it to fail, at least 1.
        seed: Seed of subsets and random labels.

    Returns:
        A frozen dataclass of `samples`, `parameters`, `ratio`, `saturated` and `history`, with `plot(ax=None)`,
        which needs Matplotlib.

    Raises:
        ValueError: If an argument is out of range, the model is not compiled, there is no sample, targets do not
            fit, or random labels are asked for in a regression.

    Cost: about ten trainings and more with `repeats`, those that fail the longest; a few dozen Hessian-vector
    products at each stop.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr


    def build():
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(2)])
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model


    x, y = np.random.normal(size=(64, 8)), np.random.randint(0, 2, 64)
    result = kr.analysis.effective_model_complexity(build, x, y, max_epochs=20)
    print(result.samples, result.ratio)
    ```

    Reference: Ravid Shwartz-Ziv, Micah Goldblum, Arpit Bansal, C. Bayan Bruss, Yann LeCun and Andrew Gordon
    Wilson, *Just How Flexible are Neural Networks in Practice?*, 2024, arXiv:2406.11463. The thresholds are ours.
    """
    check_choice("labels", labels, ("given", "random"))
    check_integer("initial_samples", initial_samples, minimum=1)
    check_number("growth", growth, above=1)
    check_number("relative_tolerance", relative_tolerance, minimum=0)
    check_number("accuracy", accuracy, above=0, maximum=1)
    check_number("max_error", max_error, minimum=0)
    check_integer("max_epochs", max_epochs, minimum=1)
    check_integer("batch_size", batch_size, minimum=1)
    check_integer("repeats", repeats, minimum=1)
    x, y = whole(x, y)
    total = len(tree.flatten(y)[0])
    if not isinstance(y, np.ndarray):
        raise ValueError("The model must have one output. Received: a structure of targets.")
    random = np.random.default_rng(seed)
    history: list[FitAttempt] = []
    parameters = 0

    def train(size):
        nonlocal parameters
        chosen = random.choice(total, size, replace=False)
        inputs = tree.map_structure(lambda leaf: leaf[chosen], x)
        model = build_model()
        if not isinstance(model, keras.Model) or not model.compiled:
            raise ValueError(f"`build_model` must return a compiled model. Received: {model!r}")
        regression = is_regression(compiled_loss(model))
        if regression and labels == "random":
            raise ValueError(
                '`labels="random"` needs classes. Received: a model with the loss of a regression.'
            )
        targets = _random_classes(y, size, random) if labels == "random" else y[chosen]
        losses: list[float] = []
        epochs, fitted, converged = 0, False, False
        while epochs < max_epochs and not converged:
            step = min(_EPOCHS, max_epochs - epochs)
            found = model.fit(inputs, targets, batch_size=batch_size, epochs=step, verbose=0)
            epochs += step
            losses.append(found.history["loss"][-1])
            outputs = np.asarray(model.predict(inputs, verbose=0), "float64")
            if regression:
                fitted = _error(outputs, targets) <= max_error
            else:
                fitted = np.mean(_right(model, outputs, targets)) >= accuracy
            converged = fitted or (
                len(losses) > 1
                and abs(losses[-1] - losses[-2]) <= loss_change * abs(losses[-2])
                and at_minimum(model, inputs, targets)
            )
        parameters = sum(math.prod(v.shape) for v in model.trainable_variables)
        history.append(FitAttempt(size, bool(fitted), bool(converged), epochs))
        return fitted

    def at_minimum(model, inputs, targets):
        name = "effective_model_complexity"
        objective = Objective(name, model, inputs, targets, include_regularization=True)
        if np.linalg.norm(objective.gradient()) > gradient_norm:
            return False
        if not check_minimum:
            return True
        start = random.integers(2**31)
        product = objective.hessian_product
        smallest = eigenvalues_of(objective, product, 1, "smallest", "lanczos", 50, 1e-2, start)
        return smallest.eigenvalues[0] >= min_eigenvalue

    best, failed, size = 0, None, min(initial_samples, total)
    while failed is None and best < total:
        if any(train(size) for _ in range(repeats)):
            best, size = size, min(total, math.ceil(size * growth))
        else:
            failed = size
    while failed is not None and failed - best > max(1, relative_tolerance * best):
        size = (best + failed) // 2
        if any(train(size) for _ in range(repeats)):
            best = size
        else:
            failed = size
    return EffectiveModelComplexity(
        best, parameters, best / max(parameters, 1), best == total, history
    )


def label_capacity_gap(
    build_model: Callable[[], keras.Model], x: Any, y: Any = None, **arguments: Any
) -> LabelCapacityGap:
    r"""How many more samples a model fits with their labels than with random ones.

    $$\frac{\mathrm{EMC}(\text{labels})}{\mathrm{EMC}(\text{random labels})} - 1$$

    of `kr.analysis.effective_model_complexity`. A model that is made for the data fits many more; the paper finds
    that the gap predicts how models generalize, without any test data. If `given` is saturated, the gap is a lower
    bound.

    Args:
        build_model: Function without arguments that returns a fresh, compiled classifier with one output.
        x: Inputs as arrays, or a dataset of batches `(x, y)` as `fit` takes them.
        y: Class ids or one-hot rows, 0 and 1 for a single output. `None` with a dataset.
        **arguments: Further arguments of `effective_model_complexity`, but `labels`.

    Returns:
        A named tuple of the `gap`, infinite where no random labels were fitted, and the results `given` and
        `random`.

    Raises:
        ValueError: As `effective_model_complexity` does.

    Cost: twice that of `effective_model_complexity`.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr


    def build():
        model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(2)])
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model


    x = np.random.normal(size=(64, 8))
    result = kr.analysis.label_capacity_gap(build, x, (x[:, 0] > 0).astype("int32"), max_epochs=20)
    print(result.gap)
    ```

    Reference: Ravid Shwartz-Ziv, Micah Goldblum, Arpit Bansal, C. Bayan Bruss, Yann LeCun and Andrew Gordon
    Wilson, *Just How Flexible are Neural Networks in Practice?*, 2024, arXiv:2406.11463.
    """
    x, y = whole(x, y)
    given = effective_model_complexity(build_model, x, y, labels="given", **arguments)
    random = effective_model_complexity(build_model, x, y, labels="random", **arguments)
    gap = given.samples / random.samples - 1 if random.samples else math.inf
    return LabelCapacityGap(gap, given, random)


def _random_classes(y, size, random):
    if y.ndim > 1 and y.shape[-1] > 1:
        return np.eye(y.shape[-1], dtype=y.dtype)[random.integers(y.shape[-1], size=size)]
    drawn = random.choice(np.unique(y), size)
    return drawn.reshape(size, *y.shape[1:])


def _error(outputs, targets):
    targets = np.asarray(targets, "float64")
    if outputs.size != targets.size:
        raise ValueError(
            "Targets must have the shape of the model's outputs. Received shapes "
            f"{targets.shape} and {outputs.shape}"
        )
    variance = np.var(targets)
    return np.mean((outputs.ravel() - targets.ravel()) ** 2) / (variance if variance > 0 else 1.0)


def _right(model, outputs, targets):
    """Which samples are classified right."""
    classes = outputs.shape[-1]
    if classes > 1:
        ids = targets.argmax(-1) if targets.shape == outputs.shape else targets
        found = outputs.argmax(-1)
    else:
        ids = targets
        found = outputs > (0.0 if gives_logits(model) else 0.5)
    if np.size(ids) != np.size(found) or not np.isin(ids, np.arange(max(classes, 2))).all():
        raise ValueError(
            f"`y` must be the ids of {max(classes, 2)} classes, or one-hot rows. Received: shape {targets.shape} "
            f"with values {np.unique(targets)[:5]} …"
        )
    return np.ravel(found) == np.ravel(ids)
