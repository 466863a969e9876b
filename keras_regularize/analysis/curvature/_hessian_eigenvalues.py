"""The largest and smallest eigenvalues of the loss' Hessian."""

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_regularize.analysis._objective import Objective
from keras_regularize.analysis._progress import progress
from keras_regularize.analysis.curvature._lanczos import combined, lanczos, norm
from keras_regularize.validation import check_choice, check_integer, check_number


@dataclasses.dataclass(frozen=True, eq=False)
class HessianEigenvalues:
    """What `hessian_eigenvalues` finds.

    Attributes:
        eigenvalues: The eigenvalues, the largest first.
        eigenvectors: For each a list of arrays in the shapes of `model.trainable_variables`, of norm 1 together.
        residuals: `|H v - λ v|` of each pair; an eigenvalue of the Hessian is within that distance.
        iterations: Number of Hessian-vector products.
        converged: Whether all residuals are within the tolerance.
    """

    eigenvalues: np.ndarray
    eigenvectors: list[list[np.ndarray]]
    residuals: np.ndarray
    iterations: int
    converged: bool

    def plot(self, ax: Any = None) -> Any:
        """Draws the eigenvalues, with their residuals as bars of error.

        Args:
            ax: Axes of Matplotlib to draw on; `None` for the current ones.

        Returns:
            The axes.
        """
        import matplotlib.pyplot as plt

        ax = plt.gca() if ax is None else ax
        ranks = np.arange(1, len(self.eigenvalues) + 1)
        ax.errorbar(ranks, self.eigenvalues, yerr=self.residuals, fmt="o", capsize=3)
        ax.axhline(0.0, color="gray", linewidth=0.8)
        ax.set(xlabel="rank", ylabel="eigenvalue of the Hessian")
        return ax


def hessian_eigenvalues(
    model: keras.Model,
    x: Any,
    y: Any = None,
    k: int = 1,
    which: str = "largest",
    method: str = "lanczos",
    max_iterations: int = 100,
    tolerance: float = 1e-3,
    seed: int | None = None,
    *,
    sample_weight: Any = None,
    loss: Any = None,
    batch_size: int = 32,
    include_regularization: bool = False,
) -> HessianEigenvalues:
    r"""Extreme eigenvalues and eigenvectors of the Hessian of a model's mean loss.

    The largest one is the curvature in the steepest direction: gradient descent with a rate above
    $2 / \lambda_{\max}$ cannot stay at this point. A negative smallest one says that the point is no minimum.

    The Lanczos iteration with every vector made orthogonal to all others finds both ends of the spectrum
    from one run. Power iteration keeps $k + 2$ vectors instead of one per iteration and converges slowly where
    eigenvalues are close; the ends of the spectrum it finds after a shift by the largest magnitude. Both stop once
    $\|H v - \lambda v\| \le$ `tolerance` $\cdot |\lambda|$ for all that is wanted.

    Args:
        model: A built model, or a wrapper of one; it runs in inference mode and is not changed.
        x: Inputs as arrays, in any nested structure the model takes, or a dataset of batches as `fit` takes them.
        y: Labels as the loss takes them; `None` with a dataset.
        k: Number of eigenvalues, at least 1; with `"both"` of each end.
        which: `"largest"`, `"smallest"` (the most negative ones), `"both"`, or `"magnitude"`.
        method: `"lanczos"` or `"power"`.
        max_iterations: Most Hessian-vector products, at least 1; of power iteration for each eigenvalue.
        tolerance: Relative residual at which to stop, at least 0.
        seed: Seed of the starting vector.
        sample_weight: Weights of samples, or `None`; also the third entry of a dataset's batches.
        loss: A loss of Keras, or a name or function of one with a value per sample; by default the compiled one.
        batch_size: Samples at once where `x` is arrays; it changes time and memory only, but where a loss takes
            the samples of a batch together, as the mean over unmasked positions does in `evaluate`.
        include_regularization: Whether the model's penalties of weights and activities are part of the loss.

    Returns:
        A frozen dataclass of `eigenvalues` (largest first), `eigenvectors`, `residuals`, `iterations` and
        `converged`, with `plot(ax=None)`, which needs Matplotlib. Fewer than `k` if there are fewer weights or
        iterations.

    Raises:
        ValueError: If an argument is out of range, the model is not built, there is no loss or no sample, or
            derivatives are not finite.

    Cost: a Hessian-vector product per iteration; Lanczos keeps a vector as large as the weights for each, on the
    host. Twenty iterations are often enough for the largest eigenvalue.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = np.random.normal(size=(60, 4)), np.arange(60) % 3
    result = kr.analysis.hessian_eigenvalues(model, x, y, k=3, seed=0)
    print(result.eigenvalues)  # result.plot() draws them.
    ```

    Reference: Cornelius Lanczos, *An iteration method for the solution of the eigenvalue problem of linear
    differential and integral operators*, Journal of Research of the National Bureau of Standards 1950; of
    networks, Behrooz Ghorbani, Shankar Krishnan and Ying Xiao, *An Investigation into Neural Net Optimization via
    Hessian Eigenvalue Density*, ICML 2019, arXiv:1901.10159.
    """
    check_integer("k", k, minimum=1)
    check_choice("which", which, ("largest", "smallest", "both", "magnitude"))
    check_choice("method", method, ("lanczos", "power"))
    check_integer("max_iterations", max_iterations, minimum=1)
    check_number("tolerance", tolerance, minimum=0)
    objective = Objective(
        "hessian_eigenvalues",
        model,
        x,
        y,
        sample_weight,
        loss,
        batch_size,
        include_regularization,
    )
    return eigenvalues_of(
        objective, objective.hessian_product, k, which, method, max_iterations, tolerance, seed
    )


def eigenvalues_of(objective, product, k, which, method, max_iterations, tolerance, seed):
    """`HessianEigenvalues` of a symmetric operator on flat vectors."""
    random = np.random.default_rng(seed)
    solve = _by_lanczos if method == "lanczos" else _by_power
    start = random.normal(size=objective.size).astype(objective.dtype)
    values, vectors, residuals, iterations = solve(
        product, start, k, which, max_iterations, tolerance, random
    )
    order = np.argsort(values)[::-1]
    return HessianEigenvalues(
        eigenvalues=values[order],
        eigenvectors=[objective.unflat(vectors[i], tensors=False) for i in order],
        residuals=residuals[order],
        iterations=iterations,
        converged=bool(_small(values, residuals, tolerance, start.dtype)),
    )


def _small(values, residuals, tolerance, dtype):
    # An eigenvalue of 0 is one up to what rounding leaves of the others.
    floor = 10 * np.finfo(dtype).eps * np.abs(values).max(initial=0.0)
    return np.all(residuals <= np.maximum(tolerance * np.abs(values), floor))


def _wanted(values, k, which):
    """Positions of the wanted ones among values that rise."""
    count = len(values)
    if which == "largest":
        return np.arange(max(count - k, 0), count)
    if which == "smallest":
        return np.arange(min(k, count))
    if which == "both":
        return np.unique(np.r_[: min(k, count), max(count - k, 0) : count])
    return np.argsort(-np.abs(values))[:k]


def _by_lanczos(product, start, k, which, max_iterations, tolerance, random):
    enough = 2 * k if which == "both" else k

    def done(found):
        values, _, residuals = found.eigh()
        chosen = _wanted(values, k, which)
        return len(chosen) >= enough and _small(
            values[chosen], residuals[chosen], tolerance, start.dtype
        )

    found = lanczos(product, start, max_iterations, random, done, restart=True)
    values, vectors, residuals = found.eigh()
    chosen = _wanted(values, k, which)
    vectors = [combined(found.basis, vectors[:, i]) for i in chosen]
    return values[chosen], vectors, residuals[chosen], len(found.basis)


def _by_power(product, start, k, which, max_iterations, tolerance, random):
    found: list[tuple[float, np.ndarray, float]] = []
    iterations = 0

    def search(shift):
        """The eigenpair of `H + shift` of largest magnitude beside those found."""
        nonlocal iterations
        vector = random.normal(size=start.size)
        value = residual = 0.0
        others = np.stack([v for _, v, _ in found]) if found else np.empty((0, start.size))
        for _ in progress(range(max_iterations), "power iteration", max_iterations):
            for _ in range(2):
                vector -= (others @ vector) @ others
            vector /= norm(vector) or 1.0
            unit = vector.astype(start.dtype)
            image = product(unit).astype("float64")
            iterations += 1
            value = float(vector @ image)
            residual = norm(image - value * vector)
            # More closely than asked for, since later ones miss what is left in this one.
            if _small(np.array([value]), np.array([residual]), 0.3 * tolerance, start.dtype):
                break
            vector, kept = image + shift * vector, vector
            if norm(vector) == 0:
                vector = kept
                break
        found.append((value, unit, residual))
        return value

    k = min(k, start.size)
    if which == "magnitude":
        for _ in range(k):
            search(0.0)
    else:
        bound = 1.1 * abs(search(0.0))  # A little more than what convergence may have missed.
        ends = {"largest": (1.0,), "smallest": (-1.0,), "both": (1.0, -1.0)}[which]
        for sign in ends:
            count = k
            # The one found first is at one of the ends.
            if found[0][0] * sign >= 0:
                count -= 1
            for _ in range(min(count, start.size - len(found))):
                search(sign * bound)
    values = np.array([value for value, _, _ in found])
    order = np.argsort(values)
    chosen = order[_wanted(values[order], k, which)]
    vectors = [found[i][1] for i in chosen]
    return values[chosen], vectors, np.array([found[i][2] for i in chosen]), iterations
