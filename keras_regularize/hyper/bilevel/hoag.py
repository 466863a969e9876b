"""Hyperparameters by gradients that become exact as the search goes on."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from keras_regularize.hyper.bilevel._inner_solvers import lbfgs
from keras_regularize.hyper.bilevel._linear import conjugate_gradient
from keras_regularize.hyper.bilevel._problem import Problem
from keras_regularize.hyper.bilevel._result import BilevelResult, History
from keras_regularize.validation import check_choice, check_integer, check_number

#: Share of the tolerance by which the outer objective may be off.
SLACK = 0.25
#: Most products with the inner Hessian in an iteration.
MAX_PRODUCTS = 500
#: A search ends after so many iterations that did not lower the outer objective by that share of it.
PATIENCE, GAIN = 5, 1e-4


class HOAG:
    r"""Hyperparameter optimization with approximate gradient.

    Each iteration $k$ improves the weights and solves the linear system of `hypergradient`, both from where the
    last one ended and only to an accuracy $\epsilon_k$, and makes a step

    $$a_{k+1} = \mathrm{clip}(a_k - p_k / L_k,\ \mathrm{lower},\ \mathrm{upper})$$

    down the hypergradient $p_k$. As long as the sum of all $\epsilon_k$ is finite it converges like a descent
    along exact gradients, at a fraction of the work. The first step has the length $\sqrt{\dim a}$ and no later
    one is longer. With `adaptive` $L$ shrinks by 5 % after each step that lowered the outer objective as
    expected, and doubles, and the step is left out, where the objective rose by a fifth. After five iterations in
    a row that did not lower the outer objective by 0.01 % the search has converged if the next step should not
    either, to first order; else, with `adaptive`, it goes on from the best with steps a quarter as long, and
    without it ends there. It returns the best.

    The inner objective should be convex in the weights with one minimum: a penalized linear model, the last layer
    of a network. On a whole network conjugate gradients meet negative curvature, and the result is a heuristic.

    Args:
        inner: Function `(weights, hyperparameters) -> scalar` of `keras.ops`, twice differentiable: the training
            loss and its penalties.
        outer: Function of the same form: the validation loss.
        inner_solver: `"lbfgs"`, which needs SciPy; or a function `(value_and_gradient, weights, tolerance) ->
            weights` of flat NumPy vectors.
        tolerance: $\epsilon_0$, above 0; relative to the first gradient of `inner`.
        tolerance_decrease: $\epsilon_k$: `"exponential"` $\epsilon_0 r^k$, `"quadratic"` $\epsilon_0 / k^2$,
            `"cubic"` $\epsilon_0 / k^3$, or `"exact"`, as small as rounding allows.
        decrease_factor: $r$, between 0 and 1.
        step_size: $1 / L_0$, or `None` for the first step as above. With a number, steps have no limit.
        adaptive: Whether $L$ changes.
        lower: Least hyperparameter.
        upper: Largest hyperparameter; hyperparameters are logarithms as a rule.
        max_iterations: Most iterations, at least 1.

    Raises:
        ValueError: If an argument is out of range.
        ImportError: If SciPy is needed and not installed.

    Cost: per iteration some gradients and Hessian-vector products of `inner`, less than a training from the start.
    Objectives are compiled once.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr
    from keras import ops

    x, y = (ops.convert_to_tensor(np.random.normal(size=s)) for s in [(2, 30, 5), (2, 30)])


    def training(w, a):
        return ops.sum((ops.matmul(x[0], w) - y[0]) ** 2) + ops.exp(a[0]) * ops.sum(w**2)


    def validation(w, a):
        return ops.sum((ops.matmul(x[1], w) - y[1]) ** 2)


    found = kr.hyper.HOAG(training, validation).minimize(np.zeros(5), np.zeros(1))
    print(found.hyperparameters, found.outer_loss)
    ```

    Reference: Fabian Pedregosa, *Hyperparameter optimization with approximate gradient*, ICML 2016,
    arXiv:1602.02355. The authors' program makes each step twice, before and after the test; here it is made once.
    The limit on the length of steps, and what is done where they are too long, are ours.
    """

    def __init__(
        self,
        inner: Callable,
        outer: Callable,
        inner_solver: str | Callable = "lbfgs",
        tolerance: float = 1e-3,
        tolerance_decrease: str = "exponential",
        decrease_factor: float = 0.9,
        step_size: float | None = None,
        adaptive: bool = True,
        lower: float = -6.0,
        upper: float = 6.0,
        max_iterations: int = 100,
    ):
        self.inner = inner
        self.outer = outer
        self.inner_solver = inner_solver
        if not callable(inner_solver):
            check_choice("inner_solver", inner_solver, ("lbfgs",))
        self.tolerance = check_number("tolerance", tolerance, above=0)
        self.tolerance_decrease = check_choice(
            "tolerance_decrease",
            tolerance_decrease,
            ("exponential", "quadratic", "cubic", "exact"),
        )
        self.decrease_factor = check_number("decrease_factor", decrease_factor, above=0, below=1)
        self.step_size = check_number("step_size", step_size, above=0, optional=True)
        self.adaptive = bool(adaptive)
        self.lower = check_number("lower", lower)
        self.upper = check_number("upper", upper, above=self.lower)
        self.max_iterations = check_integer("max_iterations", max_iterations, minimum=1)

    def minimize(
        self,
        weights: Any,
        hyperparameters: Any,
        callback: Callable[[int, dict[str, Any]], None] | None = None,
    ) -> BilevelResult:
        """Runs the search.

        Args:
            weights: Where the weights start: a tensor, or a list or other structure of them; not changed.
            hyperparameters: Where the hyperparameters start: a tensor or a structure of them.
            callback: Called as `callback(iteration, entry)` with what the history keeps of an iteration.

        Returns:
            A frozen dataclass of `weights`, `hyperparameters`, `outer_loss`, `converged` and `history`, with
            `plot(ax=None)`, which needs Matplotlib.
        """
        problem = Problem(self.inner, self.outer, weights, hyperparameters)
        w, a = problem.start
        a = np.clip(a, self.lower, self.upper)
        history = History(problem, callback)
        scale = float(np.linalg.norm(problem.first_gradient(w, a))) or 1.0
        accuracies = self._accuracies()
        accuracy, following, shrinkage = next(accuracies), next(accuracies), 1.0
        lipschitz = None if self.step_size is None else 1.0 / self.step_size
        q, before, best, patience = None, np.inf, (w, a, np.inf), PATIENCE
        settled = False

        for _ in range(self.max_iterations):
            w = self._solved(problem, w, a, accuracy * scale, history)
            value, in_w, in_a = problem.outer(w, a)
            product = lambda v: problem.curved(w, a, v)[0]  # noqa: B023, E731
            q = conjugate_gradient(product, in_w, q, accuracy, MAX_PRODUCTS).x
            gradient = in_a - problem.curved(w, a, q)[1]
            size = float(np.linalg.norm(gradient))
            if not np.isfinite(size) and not np.isfinite(best[2]):
                raise ValueError("The outer objective has no finite gradient at the start.")
            history.add(a, outer_loss=value, gradient_norm=size, accuracy=accuracy)
            patience = PATIENCE if value < best[2] - GAIN * abs(value) else patience - 1
            if value < best[2]:
                best = w, a, value
            if lipschitz is None:
                lipschitz = size / np.sqrt(a.size) if size > 1e-3 else 1.0
            if not patience:
                # What a step should gain says whether steps are too long, or there is nothing more to gain.
                step = a - np.clip(a - gradient / lipschitz, self.lower, self.upper)
                settled = bool(gradient @ step <= GAIN * abs(value))
                if settled or not self.adaptive:
                    break
                (w, a, value), before, patience = best, np.inf, PATIENCE
                lipschitz *= 4.0
                continue
            rejected = False
            if self.adaptive and np.isfinite(before):
                move = size / lipschitz
                slack = SLACK * shrinkage * following + accuracy * (SLACK + 1.0) * move
                if value <= before + slack - lipschitz * move**2:
                    lipschitz *= 0.95
                elif value >= before + 0.2 * abs(before):
                    lipschitz, shrinkage, rejected = 2.0 * lipschitz, 0.5 * shrinkage, True
            before = value
            if not rejected:
                step = gradient / lipschitz
                if self.step_size is None:
                    step *= min(1.0, np.sqrt(a.size) / max(float(np.linalg.norm(step)), 1e-300))
                a = np.clip(a - step, self.lower, self.upper)
            accuracy, following = shrinkage * following, next(accuracies)
        return history.result(*best, converged=settled)

    def _solved(self, problem, w, a, tolerance, history):
        def function(w):
            history.work += 1
            return problem.inner(w, a)

        solver = self.inner_solver if callable(self.inner_solver) else lbfgs
        return np.asarray(solver(function, w, tolerance), "float64")

    def _accuracies(self) -> Iterator[float]:
        k = 0
        while True:
            yield {
                "exponential": self.tolerance * self.decrease_factor**k,
                "quadratic": self.tolerance / (k + 1) ** 2,
                "cubic": self.tolerance / (k + 1) ** 3,
                "exact": 1e-12,
            }[self.tolerance_decrease]
            k += 1
