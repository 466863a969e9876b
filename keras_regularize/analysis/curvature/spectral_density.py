"""The density of all eigenvalues of the loss' Hessian."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_regularize.analysis._objective import Objective
from keras_regularize.analysis.curvature._lanczos import lanczos
from keras_regularize.validation import check_integer, check_number


@dataclasses.dataclass(frozen=True, eq=False)
class SpectralDensity:
    """What `hessian_spectral_density` estimates: shares of the eigenvalues at nodes.

    Attributes:
        nodes: Places, of all runs one after the other, those of a run rising.
        weights: The share of the eigenvalues near each; they sum to 1.
    """

    nodes: np.ndarray
    weights: np.ndarray

    def density(self, grid: Any, bandwidth: float | None = None) -> np.ndarray:
        """The density at the points of `grid`, as `smoothed_density` has it."""
        return smoothed_density(self.nodes, self.weights, grid, bandwidth)

    def plot(self, ax: Any = None, bandwidth: float | None = None) -> Any:
        """Draws the smoothed density on a logarithmic axis.

        Args:
            ax: Axes of Matplotlib to draw on; `None` for the current ones.
            bandwidth: As in `smoothed_density`.

        Returns:
            The axes.
        """
        import matplotlib.pyplot as plt

        ax = plt.gca() if ax is None else ax
        low, high = self.nodes.min(), self.nodes.max()
        margin = 0.05 * (high - low) or 1.0
        grid = np.linspace(low - margin, high + margin, 1000)
        values = self.density(grid, bandwidth)
        ax.semilogy(grid, values)
        ax.set(xlabel="eigenvalue of the Hessian", ylabel="density")
        ax.set_ylim(bottom=max(values.max() * 1e-7, 1e-12))
        return ax


def hessian_spectral_density(
    model: keras.Model,
    x: Any,
    y: Any = None,
    steps: int = 80,
    runs: int = 5,
    start: Any = None,
    seed: int | None = None,
    *,
    sample_weight: Any = None,
    loss: Any = None,
    batch_size: int = 32,
    include_regularization: bool = False,
) -> SpectralDensity:
    r"""The density of all eigenvalues of the Hessian of a model's mean loss.

    Stochastic Lanczos quadrature: of the tridiagonal matrix that `steps` Lanczos steps from a random vector $v$
    give, the eigenvalues are nodes and the squared first components of the eigenvectors weights, with
    $\sum_j \omega_j \theta_j^k = v^\top H^k v$ for $k < 2 \cdot$ `steps`; averaged over `runs` vectors, that is
    $\frac1P \operatorname{tr} H^k$. A network's Hessian as a rule has a bulk near 0, some large outliers, about as
    many as classes, and few negative eigenvalues near a minimum.

    Args:
        model: A built model, or a wrapper of one; it runs in inference mode and is not changed.
        x: Inputs as arrays, in any nested structure the model takes, or a dataset of batches as `fit` takes them.
        y: Labels as the loss takes them; `None` with a dataset.
        steps: Lanczos steps per run, at least 1.
        runs: Number of random vectors, at least 1.
        start: One vector in the place of random ones, a list of arrays in the shapes of
            `model.trainable_variables`.
        seed: Seed of the vectors.
        sample_weight: Weights of samples, or `None`; also the third entry of a dataset's batches.
        loss: A loss of Keras, or a name or function of one with a value per sample; by default the compiled one.
        batch_size: Samples at once where `x` is arrays; it changes time and memory only, but where a loss takes
            the samples of a batch together, as the mean over unmasked positions does in `evaluate`.
        include_regularization: Whether the model's penalties of weights and activities are part of the loss.

    Returns:
        A frozen dataclass of `nodes` and `weights`, with `density(grid, bandwidth=None)` and
        `plot(ax=None, bandwidth=None)`, which needs Matplotlib.

    Raises:
        ValueError: If an argument is out of range, the model is not built, there is no loss or no sample, or
            derivatives are not finite.

    Cost: `steps * runs` Hessian-vector products, and `steps` vectors as large as the weights on the host.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = np.random.normal(size=(60, 4)), np.arange(60) % 3
    result = kr.analysis.hessian_spectral_density(model, x, y, steps=20, runs=2, seed=0)
    density = result.density(np.linspace(-1, 1, 100))  # result.plot() draws it.
    ```

    Reference: Shashanka Ubaru, Jie Chen and Yousef Saad, *Fast Estimation of tr(f(A)) via Stochastic Lanczos
    Quadrature*, SIAM Journal on Matrix Analysis and Applications 2017; of networks, Behrooz Ghorbani, Shankar
    Krishnan and Ying Xiao, *An Investigation into Neural Net Optimization via Hessian Eigenvalue Density*, ICML
    2019, arXiv:1901.10159.
    """
    check_integer("steps", steps, minimum=1)
    check_integer("runs", runs, minimum=1)
    objective = Objective(
        "hessian_spectral_density",
        model,
        x,
        y,
        sample_weight,
        loss,
        batch_size,
        include_regularization,
    )
    random = np.random.default_rng(seed)
    starts: Iterable[np.ndarray]
    if start is not None:
        starts = [objective.checked("start", start)]
        if not starts[0].any():
            raise ValueError("`start` must not be zero. Received: a vector of zeros.")
    else:
        starts = (random.normal(size=objective.size).astype(objective.dtype) for _ in range(runs))
    nodes, weights = [], []
    for i, vector in enumerate(starts):
        name = f"spectral density, run {i + 1}"
        found = lanczos(objective.hessian_product, vector, steps, random, name=name)
        values, vectors, _ = found.eigh()
        nodes.append(values)
        weights.append(vectors[0] ** 2)
    return SpectralDensity(np.concatenate(nodes), np.concatenate(weights) / len(weights))


def smoothed_density(
    nodes: Any, weights: Any, grid: Any, bandwidth: float | None = None
) -> np.ndarray:
    r"""A density from weighted points: a Gaussian around each.

    $$p(t) = \sum_k \omega_k\, N(t;\, \theta_k, b^2)$$

    Args:
        nodes: Points $\theta_k$, `(k,)`.
        weights: Their weights $\omega_k$, `(k,)`; the density integrates to their sum.
        grid: Where to evaluate it, an array of any shape.
        bandwidth: The deviation $b$ of the Gaussians, positive; by default a hundredth of the range of the nodes.

    Returns:
        An array of the shape of `grid`.

    Raises:
        ValueError: If shapes do not fit or the bandwidth is not positive.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    grid = np.linspace(-1, 4, 200)
    density = kr.analysis.smoothed_density([0.0, 3.0], [0.9, 0.1], grid, bandwidth=0.2)
    ```
    """
    nodes, weights, grid = (np.asarray(values, "float64") for values in (nodes, weights, grid))
    if nodes.ndim != 1 or nodes.shape != weights.shape or not nodes.size:
        raise ValueError(
            "`nodes` and `weights` must be vectors of one length, at least 1. Received shapes "
            f"{nodes.shape} and {weights.shape}"
        )
    check_number("bandwidth", bandwidth, above=0, optional=True)
    if bandwidth is None:
        bandwidth = float(np.ptp(nodes)) * 1e-2 or 1e-2
    density = np.zeros(grid.shape)
    for node, weight in zip(nodes, weights):
        density += weight * np.exp(-0.5 * ((grid - node) / bandwidth) ** 2)
    return density / (bandwidth * np.sqrt(2 * np.pi))
