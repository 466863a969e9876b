"""How the loss settles as samples are added."""

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_regularize.analysis._objective import Objective
from keras_regularize.validation import check_integer, check_number


@dataclasses.dataclass(frozen=True, eq=False)
class LandscapeConvergence:
    """What `landscape_convergence` measures.

    Attributes:
        sizes: Numbers of samples $k$, from 1.
        differences: How much the mean loss changes from $k$ to $k + 1$ samples.
    """

    sizes: np.ndarray
    differences: np.ndarray

    def plot(self, ax: Any = None) -> Any:
        """Draws the differences against the number of samples, on a logarithmic axis.

        Args:
            ax: Axes of Matplotlib to draw on; `None` for the current ones.

        Returns:
            The axes.
        """
        import matplotlib.pyplot as plt

        ax = plt.gca() if ax is None else ax
        ax.semilogy(self.sizes, self.differences)
        ax.set(xlabel="samples", ylabel="change of the loss by one more")
        return ax


def loss_difference_curve(losses: Any, smoothing: float | None = None) -> np.ndarray:
    r"""How much a mean of losses changes with every loss that joins it.

    With $L_k$ the mean of the first $k$ losses of a row,

    $$|L_{k+1} - L_k| = \frac{|\ell_{k+1} - L_k|}{k + 1},$$

    averaged over the rows, and smoothed by $m_t = s\, m_{t-1} + (1 - s)\, v_t$ if asked for.

    Args:
        losses: Losses in one order, `(n,)`, or in several, `(orders, n)`; at least two.
        smoothing: $s$, at least 0 and below 1, or `None`.

    Returns:
        An array `(n - 1,)`, for $k = 1, \dots, n - 1$.

    Raises:
        ValueError: If there are fewer than two losses, or the smoothing is out of range.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    losses = np.random.exponential(size=(20, 500))
    curve = kr.analysis.loss_difference_curve(losses)  # falls like 1/k
    ```

    Reference: Nikita Kiselev and Andrey Grabovoy, *Unraveling the Hessian: A Key to Smooth Convergence in Loss
    Function Landscapes*, 2024, arXiv:2409.11995.
    """
    check_number("smoothing", smoothing, minimum=0, below=1, optional=True)
    rows = np.atleast_2d(np.asarray(losses, "float64"))
    if rows.ndim != 2 or rows.shape[1] < 2 or not len(rows):
        raise ValueError(
            "`losses` must be a vector of at least two losses, or rows of them. Received: shape "
            f"{np.shape(losses)}"
        )
    return _smoothed(np.mean([_differences(row) for row in rows], axis=0), smoothing)


def landscape_convergence(
    model: keras.Model,
    x: Any,
    y: Any = None,
    repeats: int = 100,
    smoothing: float | None = 0.99,
    seed: int | None = None,
    *,
    sample_weight: Any = None,
    loss: Any = None,
    batch_size: int = 32,
    include_regularization: bool = False,
) -> LandscapeConvergence:
    r"""How fast a model's mean loss settles as samples are added: when more data changes the landscape no more.

    `loss_difference_curve` of the losses of single samples at the model's weights, each as if it were alone, over
    random orders of the samples. It falls like $1/k$, at a height that is the mean absolute deviation of the
    losses.

    Args:
        model: A built model, or a wrapper of one; it runs in inference mode and is not changed.
        x: Inputs as arrays, in any nested structure the model takes, or a dataset of batches as `fit` takes them.
        y: Labels as the loss takes them; `None` with a dataset.
        repeats: Number of random orders, at least 1.
        smoothing: Exponential smoothing of the curve, at least 0 and below 1, or `None`.
        seed: Seed of the orders.
        sample_weight: Weights of samples, or `None`; also the third entry of a dataset's batches.
        loss: A loss of Keras, or a name or function of one with a value per sample; by default the compiled one.
        batch_size: Samples at once where `x` is arrays; it changes time and memory only.
        include_regularization: Whether the model's penalties of weights and activities are part of the loss.

    Returns:
        A frozen dataclass of `sizes` and `differences`, with `plot(ax=None)`, which needs Matplotlib;
        `sample_size_for_tolerance` reads it.

    Raises:
        ValueError: If an argument is out of range, the model is not built, there is no loss, or there are fewer
            than two samples.

    Cost: a forward pass over the data.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = np.random.normal(size=(300, 4)), np.arange(300) % 3
    result = kr.analysis.landscape_convergence(model, x, y, seed=0)
    print(kr.analysis.sample_size_for_tolerance(result, 0.01))
    ```

    Reference: Nikita Kiselev and Andrey Grabovoy, *Unraveling the Hessian: A Key to Smooth Convergence in Loss
    Function Landscapes*, 2024, arXiv:2409.11995.
    """
    check_integer("repeats", repeats, minimum=1)
    check_number("smoothing", smoothing, minimum=0, below=1, optional=True)
    losses = Objective(
        "landscape_convergence",
        model,
        x,
        y,
        sample_weight,
        loss,
        batch_size,
        include_regularization,
    ).sample_losses()
    if len(losses) < 2:
        raise ValueError("There must be at least two samples. Received: one sample")
    random = np.random.default_rng(seed)
    total = np.zeros(len(losses) - 1)
    for _ in range(repeats):
        total += _differences(random.permutation(losses))
    return LandscapeConvergence(np.arange(1, len(losses)), _smoothed(total / repeats, smoothing))


def sample_size_for_tolerance(curve: Any, tolerance: float) -> int | None:
    r"""The number of samples from which on one more changes the mean loss by no more than a tolerance.

    Args:
        curve: What `landscape_convergence` or `loss_difference_curve` returns.
        tolerance: The largest change, positive.

    Returns:
        An integer, or `None` where the curve ends above the tolerance.

    Raises:
        ValueError: If the curve is no vector or the tolerance not positive.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.analysis.sample_size_for_tolerance(1 / np.arange(1, 101), 0.05)  # 20
    ```
    """
    check_number("tolerance", tolerance, above=0)
    values = np.asarray(getattr(curve, "differences", curve), "float64")
    if values.ndim != 1 or not values.size:
        raise ValueError(f"`curve` must be a vector. Received: shape {values.shape}")
    above = np.flatnonzero(~(values <= tolerance))
    if not above.size:
        return 1
    return None if above[-1] == values.size - 1 else int(above[-1]) + 2


def _differences(losses):
    count = np.arange(1, len(losses))
    means = np.cumsum(losses)[:-1] / count
    return np.abs(losses[1:] - means) / (count + 1)


def _smoothed(values, smoothing):
    if not smoothing:
        return values
    result = np.empty_like(values)
    last = values[0]
    for i, value in enumerate(values):
        last = result[i] = smoothing * last + (1 - smoothing) * value if i else value
    return result
