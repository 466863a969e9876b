"""Self-distillation: generations of a model, each of which learns from the one before."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import tree

from keras_regularize.scores import compiled_loss, gives_logits, has_labels, is_regression
from keras_regularize.validation import check_integer, check_number


def optimal_distillation_weight(targets: Any, on_targets: Any, on_teacher: Any) -> float:
    r"""How much of the ground truth a model should get beside its teacher, from two trained models.

    With $a$ the predictions on validation data of a model trained on the ground truth, $b$ those of one trained on
    the teacher's predictions, and $y$ the targets there,

    $$\alpha^* = \arg\min_\alpha \|y - (\alpha a + (1 - \alpha)\, b)\|^2
      = \frac{\langle y - b,\, a - b\rangle}{\|a - b\|^2} .$$

    For kernel ridge regression, whose predictions are linear in the targets, it is the best $\alpha$ exactly; for
    networks an estimate. It may lie outside `[0, 1]`: clip it for networks. If both predict the same it is 1.

    Args:
        targets: Targets $y$ of the validation data, of any shape; of classes as one-hot rows.
        on_targets: Predictions $a$, of the same shape; of classes as probabilities.
        on_teacher: Predictions $b$, of the same shape.

    Returns:
        $\alpha^*$, a float.

    Raises:
        ValueError: If the shapes differ.

    Cost: two sums over the predictions.

    Example:

    ```python
    import keras_regularize as kr

    kr.analysis.optimal_distillation_weight([1.0, 0.0], [0.9, 0.2], [0.6, 0.4])
    ```

    Reference: Kenneth Borup and Lars N. Andersen, *Even your Teacher Needs Guidance: Ground-Truth Targets Dampen
    Regularization Imposed by Self-Distillation*, NeurIPS 2021, arXiv:2102.13088.
    """
    y, a, b = (np.asarray(v, "float64") for v in (targets, on_targets, on_teacher))
    if not y.shape == a.shape == b.shape:
        raise ValueError(
            "Expected targets and predictions of one shape. Received: "
            f"targets.shape={y.shape}, on_targets.shape={a.shape}, on_teacher.shape={b.shape}"
        )
    distance = np.sum((a - b) ** 2)
    return float(np.sum((y - b) * (a - b)) / distance) if distance > 0 else 1.0


def kernel_self_distillation(
    kernel: Any, targets: Any, weights: Sequence[float], regularization: float
) -> np.ndarray:
    r"""Self-distillation of kernel ridge regression in closed form: the fitted values of every generation.

    $$y^{(\tau)} = K (K + \lambda I)^{-1} \big(\alpha_\tau\, y + (1 - \alpha_\tau)\, y^{(\tau - 1)}\big),
      \qquad y^{(0)} = y .$$

    Each generation shrinks the small eigenvalues of $K$ more. Without ground truth, $\alpha = 0$, all goes to 0 in
    the end; with a constant $\alpha > 0$ it tends to $\alpha K (\alpha K + \lambda I)^{-1} y$, ordinary ridge
    regression with $\lambda / \alpha$. It shows what to expect of networks, for which `kr.analysis.self_distill`
    does the same.

    Args:
        kernel: Kernel matrix $K$ of the training inputs `(n, n)`, symmetric and positive semi-definite.
        targets: Targets $y$, `(n,)` or `(n, outputs)`.
        weights: Weight $\alpha_\tau$ of the ground truth in each generation. That of the first has no effect.
        regularization: $\lambda > 0$.

    Returns:
        Fitted values `(len(weights), *targets.shape)`, in float64. Predictions elsewhere are
        $k(x, X) K^{-1} y^{(\tau)}$.

    Raises:
        ValueError: If `regularization` is not positive, `weights` are not a list of numbers, or the shapes do not
            fit.

    Cost: one factorization of an $n \times n$ matrix, and two products with one per generation.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    x = np.linspace(0, 1, 11)
    kernel = np.exp(-80 * (x[:, None] - x[None, :]) ** 2)
    y = np.sin(2 * np.pi * x) + 0.5 * np.random.default_rng(0).normal(size=11)
    fitted = kr.analysis.kernel_self_distillation(kernel, y, [0.35] * 6, regularization=0.2)
    ```

    Reference: Kenneth Borup and Lars N. Andersen, *Even your Teacher Needs Guidance: Ground-Truth Targets Dampen
    Regularization Imposed by Self-Distillation*, NeurIPS 2021, arXiv:2102.13088.
    """
    check_number("regularization", regularization, above=0)
    if np.ndim(weights) != 1:
        raise ValueError(
            f"`weights` must be a list of one number per generation. Received: weights={weights!r}"
        )
    for alpha in weights:
        check_number("weights", alpha)
    kernel, targets = np.asarray(kernel, "float64"), np.asarray(targets, "float64")
    size = len(targets) if targets.ndim else 0
    if kernel.shape != (size, size):
        raise ValueError(
            "Expected a kernel matrix (n, n) and targets (n,) or (n, outputs). Received: "
            f"kernel.shape={kernel.shape}, targets.shape={targets.shape}"
        )
    # By its eigenvalues: singular kernel matrices are fine, and a generation costs no solve.
    values, vectors = np.linalg.eigh(kernel)
    shrunk = values / (values + regularization)
    start = vectors.T @ targets.reshape(size, -1)
    fitted, steps = start, []
    for alpha in weights:
        fitted = shrunk[:, None] * (alpha * start + (1.0 - alpha) * fitted)
        steps.append((vectors @ fitted).reshape(targets.shape))
    return np.array(steps).reshape(len(steps), *targets.shape)


class SelfDistillation(NamedTuple):
    r"""What `self_distill` returns.

    Attributes:
        models: The trained model of every generation, the first of which saw the ground truth alone.
        weights: The weight $\alpha$ of the ground truth in each; 1 for the first.
    """

    models: list[keras.Model]
    weights: list[float]


def self_distill(
    build_model: Callable[[], keras.Model],
    x: Any,
    y: Any,
    steps: int = 3,
    alpha: float | str = "auto",
    validation_data: tuple[Any, Any] | None = None,
    verbose: int = 1,
    from_logits: bool | None = None,
    **fit_arguments: Any,
) -> SelfDistillation:
    r"""Trains generations of a model, each on a mix of the ground truth and the predictions of the one before.

    Generation $\tau$ is a fresh model that is fitted to

    $$\alpha\, y + (1 - \alpha)\, y^{(\tau - 1)},$$

    where $y^{(\tau - 1)}$ are the predictions of its predecessor on the training inputs, and $y^{(0)} = y$. For
    squared error and for cross-entropy that is distillation with weights $\alpha$ and $1 - \alpha$ (at
    temperature 1), at the cost of plain training. Every generation is more regularized than the one before. A few
    often improve the model, with $\alpha = 0$ many ruin it; evaluate each and keep the best.

    `alpha="auto"` finds the weight for each generation after the first as the authors do: it trains one more
    model on the predecessor's predictions alone, and asks `optimal_distillation_weight` on the validation data,
    the first model being that which saw the ground truth alone; the weight is clipped to `[0, 1]`.

    Args:
        build_model: Function without arguments that returns a fresh, compiled model with one output. Its loss must
            compare targets and outputs of one shape: squared error, `BinaryCrossentropy` or
            `CategoricalCrossentropy`, of probabilities or of logits. The model may be a wrapper such as
            `kr.models.SAM`.
        x: Training inputs, an array or any structure of arrays that the model takes.
        y: Targets `(n, outputs)`; classes as one-hot rows.
        steps: Number of generations, at least 1.
        alpha: Weight $\alpha$ of the ground truth from 0 to 1 for all generations, or `"auto"`.
        validation_data: `(x, y)` for `alpha="auto"`, which `fit` gets too.
        verbose: 0 for silence, 1 for a progress bar over the trainings.
        from_logits: Whether outputs are logits, which become probabilities; `False` for a regression. `None` asks
            the compiled loss.
        **fit_arguments: Further arguments of `fit`: `epochs`, `batch_size`, `callbacks`, …

    Returns:
        A named tuple of two lists, `models` and `weights`, with an entry for each generation.

    Raises:
        ValueError: If an argument is out of range, the model is not compiled, targets and outputs differ in shape,
            or `alpha="auto"` has no validation data.

    Cost: `steps` trainings, `2 * steps - 1` with `alpha="auto"`, and a prediction of the training data after each.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr


    def build():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(20, "tanh"), keras.layers.Dense(1)])
        model.compile(keras.optimizers.Adam(0.01), "mse")
        return model


    x = np.random.default_rng(0).uniform(size=(40, 1))
    y = np.sin(6 * x) + np.random.default_rng(1).normal(0, 0.3, (40, 1))
    result = kr.analysis.self_distill(build, x, y, steps=2, alpha=0.3, epochs=2)
    best = min(result.models, key=lambda model: model.evaluate(x, y, verbose=0))
    ```

    Reference: Kenneth Borup and Lars N. Andersen, *Even your Teacher Needs Guidance: Ground-Truth Targets Dampen
    Regularization Imposed by Self-Distillation*, NeurIPS 2021, arXiv:2102.13088.
    """
    check_integer("steps", steps, minimum=1)
    search = alpha == "auto"
    if not search:
        check_number("alpha", alpha, minimum=0, maximum=1)
    elif validation_data is None and steps > 1:
        raise ValueError('`alpha="auto"` needs `validation_data`. Received: validation_data=None')
    y, weights = np.asarray(y, "float32"), [1.0]
    models: list[keras.Model] = []
    trainings = 2 * steps - 1 if search else steps
    progress = keras.utils.Progbar(trainings, verbose=verbose, unit_name="training")

    def train(targets):
        model = build_model()
        if not isinstance(model, keras.Model) or not model.compiled:
            raise ValueError(f"`build_model` must return a compiled model. Received: {model!r}")
        if not models:  # Before the first training, not after it.
            _predict(model, tree.map_structure(lambda leaf: leaf[:1], x), y[:1], from_logits)
        model.fit(x, targets, validation_data=validation_data, verbose=0, **fit_arguments)
        progress.add(1)
        return model

    models.append(train(y))
    while len(models) < steps:
        taught = _predict(models[-1], x, y, from_logits)
        weight: Any = alpha
        if search and validation_data is not None:
            inputs, truth = validation_data
            both = models[0], train(taught)
            predictions = [_predict(m, inputs, truth, from_logits) for m in both]
            weight = optimal_distillation_weight(truth, *predictions)
            weight = min(max(weight, 0.0), 1.0)
        models.append(train(weight * y + (1.0 - weight) * taught))
        weights.append(float(weight))
    return SelfDistillation(models, weights)


def _predict(model, x, y, from_logits):
    """Predictions in the form of the targets `y`: probabilities where the model gives out logits."""
    outputs = model.predict(x, verbose=0)
    if np.shape(outputs) != np.shape(y):
        raise ValueError(
            "Targets must have the shape of the model's outputs, those of classes as one-hot rows: see "
            "`keras.utils.to_categorical`. Received: "
            f"y.shape={np.shape(y)} for outputs of shape {np.shape(outputs)}"
        )
    if from_logits is None and is_regression(compiled_loss(model)):
        return outputs
    if not gives_logits(model, from_logits):
        return outputs
    if outputs.shape[-1] == 1 or has_labels(outputs, model):
        return np.exp(-np.logaddexp(0.0, -outputs))
    outputs = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
    return outputs / outputs.sum(axis=-1, keepdims=True)
