"""The L2 penalty of a model by the gradient of its validation loss."""

import dataclasses
import math
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_regularize.autodiff.compiled_losses import CompiledLoss
from keras_regularize.autodiff.functional import read_values
from keras_regularize.hyper.bilevel.hoag import HOAG
from keras_regularize.hyper.bilevel.objectives import l2_penalty, objective_with
from keras_regularize.utils.variables import chooser, is_matrix
from keras_regularize.validation import check_number


@dataclasses.dataclass(frozen=True, eq=False)
class TunedL2:
    """What `tune_l2` finds.

    Attributes:
        l2: `{path of a weight: factor}`, as `keras.regularizers.L2` takes it.
        weights: Arrays in the order of `model.trainable_variables`, trained with that penalty.
        validation_loss: The validation loss of these weights.
        history: Lists with an entry for each iteration, as of `kr.hyper.HOAG`: `validation_loss`,
            `hyperparameters` (logarithms of twice the factors), `inner_iterations` and others.
    """

    l2: dict[str, float]
    weights: list[np.ndarray]
    validation_loss: float
    history: dict[str, list[Any]]

    def plot(self, ax: Any = None) -> Any:
        """Draws the validation loss and the factors over the iterations.

        Args:
            ax: Axes of Matplotlib to draw on; `None` for the current ones.

        Returns:
            The axes.
        """
        import matplotlib.pyplot as plt

        ax = plt.gca() if ax is None else ax
        factors = 0.5 * np.exp(np.stack(self.history["hyperparameters"]))
        for i in range(factors.shape[1]):
            ax.plot(factors[:, i], self.history["validation_loss"], marker=".")
        ax.set(xscale="log", xlabel="factor of the L2 penalty", ylabel="validation loss")
        return ax


def tune_l2(
    model: keras.Model,
    x: Any,
    y: Any,
    validation_data: tuple[Any, Any],
    per_layer: bool = False,
    loss: Any = None,
    initial: float = 1e-3,
    where: Any = None,
    max_iterations: int = 50,
    tolerance: float = 1e-3,
) -> TunedL2:
    r"""Finds the L2 penalty with the lowest validation loss, in one search instead of a grid of trainings.

    `kr.hyper.HOAG` on the mean training loss plus $\lambda \sum w^2$, over $\log \lambda$ from
    $e^{-12}$ to $e^{12}$ times `initial`. With `per_layer` every weight has a factor of its own, which no grid can
    search.

    It is exact where the training loss has one minimum: linear and logistic models, a new head on fixed features
    (freeze the rest, or pass a model of the head alone). A whole network is trained from where it is, in full
    batches; what is found there is a heuristic.

    Args:
        model: A built model; neither it nor its weights are changed. Its own penalties do not count.
        x: Inputs of the training data as arrays; all are one batch.
        y: Their labels.
        validation_data: `(x, y)` of the validation data.
        per_layer: Whether each penalized weight has its own factor.
        loss: A loss of Keras, or a name or function of one with a value per sample; by default the compiled one.
        initial: Where factors start, above 0.
        where: Which weights are penalized: the name of a variable, a list of names of variables or of layers on
            their path, or a function of the variable such as `kr.utils.AllBut`; `None` for kernels and embeddings.
        max_iterations: Most iterations of the search, at least 1.
        tolerance: First accuracy of the search, above 0.

    Returns:
        A frozen dataclass of `l2`, `weights`, `validation_loss` and `history`, with `plot(ax=None)`, which needs
        Matplotlib.

    Raises:
        ValueError: If an argument is out of range, there is no loss, or no weight is penalized.
        ImportError: If SciPy is not installed.

    Cost: some hundred gradients and Hessian-vector products of the whole training data, compiled once.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.random.normal(size=(60, 10))
    y = x[:, :1] + np.random.normal(size=(60, 1))
    found = kr.hyper.tune_l2(model, x[:30], y[:30], (x[30:], y[30:]))
    for variable, value in zip(model.trainable_variables, found.weights):
        variable.assign(value)
    print(found.l2)
    ```

    Reference: Fabian Pedregosa, *Hyperparameter optimization with approximate gradient*, ICML 2016,
    arXiv:1602.02355.
    """
    check_number("initial", initial, above=0)
    if loss is None and getattr(model, "loss", None) is None:
        raise ValueError(
            "`tune_l2` needs a loss. Received: loss=None and a model that was not compiled with one."
        )
    if not isinstance(validation_data, (list, tuple)) or len(validation_data) != 2:
        raise ValueError(
            f"`validation_data` must be `(x, y)`. Received: validation_data={validation_data!r}"
        )

    def compiled_for(outputs):
        return CompiledLoss.of(model, outputs) if loss is None else CompiledLoss(loss, None, names)

    names = getattr(model, "output_names", None)
    data = objective_with(model, compiled_for, x, y)
    validation = objective_with(model, compiled_for, *validation_data)
    # Sums, for which the accuracies of the search are made.
    samples, validated = (len(tree.flatten(part)[0]) for part in (x, validation_data[0]))
    variables = model.trainable_variables
    chosen = list(map(chooser(where, is_matrix), variables))
    if not any(chosen):
        raise ValueError(
            f"No weight is penalized. Received: where={where!r} for {[v.path for v in variables]}"
        )
    positions = np.cumsum(chosen) - 1 if per_layer else np.zeros(len(chosen), int)
    groups = [int(i) if is_chosen else -1 for i, is_chosen in zip(positions, chosen)]
    start = math.log(2.0 * initial)
    search = HOAG(
        lambda w, a: samples * (data(w) + l2_penalty(w, a, groups)),
        lambda w, a: validated * validation(w),
        tolerance=tolerance,
        lower=start - 12.0,
        upper=start + 12.0,
        max_iterations=max_iterations,
    )
    found = search.minimize(read_values(variables), np.full(max(groups) + 1, start, "float32"))
    factors = 0.5 * np.exp(found.hyperparameters)
    l2 = {v.path: float(factors[g]) for v, g in zip(variables, groups) if g >= 0}
    losses = [value / validated for value in found.history.pop("outer_loss")]
    history = {"validation_loss": losses, **found.history}
    return TunedL2(l2, list(found.weights), found.outer_loss / validated, history)
