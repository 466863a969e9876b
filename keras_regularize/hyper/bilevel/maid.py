"""Hyperparameters by gradients whose accuracy is as low as a descent allows."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from keras_regularize.hyper.bilevel._hypergradient_error_bound import hypergradient_error_bound
from keras_regularize.hyper.bilevel._inner_solvers import accelerated_gradient
from keras_regularize.hyper.bilevel._linear import (
    conjugate_gradient,
    extreme_eigenvalues,
    operator_norm,
)
from keras_regularize.hyper.bilevel._problem import Problem
from keras_regularize.hyper.bilevel._result import BilevelResult, History
from keras_regularize.validation import check_integer, check_number

#: Most products with the inner Hessian in a linear system.
MAX_PRODUCTS = 1000
#: A search ends where weights would have to be more accurate than that.
FLOOR = 1e-7


class _Constants(NamedTuple):
    """Convexity and Lipschitz constant of the inner gradient, that of the outer one, norm of the Jacobian."""

    convexity: float
    lipschitz: float
    outer_lipschitz: float
    jacobian: float


class MAID:
    r"""Method of adaptive inexact descent: a bilevel search without accuracies or step sizes to tune.

    Weights are found to a distance $\epsilon$ of the minimizer, certified by
    $\|\nabla_w h\| \le \mu\, \epsilon$, and the linear system to a residual $\delta$. Both are lowered until the
    bound $\omega$ of `hypergradient_error_bound` is at most $(1 - \eta)\,\|z\|$, so that minus the hypergradient
    $z$ leads downhill for certain; a line search then accepts a step $s$ only if the outer objective falls by
    $\eta^2 s\, \|z\|^2$ even in the worst case of inexact weights. After success accuracies are loosened and the
    step grows, after failure they are tightened.

    Where the inner objective is quadratic in the weights and the mixed derivative does not change with them, the
    constants that are 0 by default are exact, and each accepted step lowers the true outer objective.

    Args:
        inner: Function `(weights, hyperparameters) -> scalar` of `keras.ops`, twice differentiable, strongly
            convex in the weights: the training loss with penalties.
        outer: Function of the same form: the validation loss.
        strong_convexity: $\mu$, or `None` for the smallest eigenvalue of the inner Hessian at the current point
            (beyond 64 weights an estimate from above by a power iteration: give a bound, such as the factor of an
            L2 penalty).
        inner_lipschitz: Lipschitz constant of the inner gradient, or `None` for the largest eigenvalue there.
        outer_lipschitz: $L_g$, or `None` for the largest eigenvalue of the outer Hessian there.
        epsilon: First $\epsilon$, above 0.
        delta: First $\delta$, above 0.
        step_size: First step, above 0.
        rho: Factor of the step from trial to trial, between 0 and 1.
        accuracy_decrease: Factor of $\epsilon$ and $\delta$ after failure, between 0 and 1.
        accuracy_increase: Factor after success, at least 1.
        step_increase: Factor of the step after success, at least 1.
        eta: $\eta$, between 0 and 1.
        backtracking: Trials of a line search, at least 1.
        max_iterations: Most steps, at least 1.
        jacobian_lipschitz: $L_B$, at least 0.
        inverse_hessian_lipschitz: $L_{H^{-1}}$, at least 0.

    Raises:
        ValueError: If an argument is out of range, or the inner objective is not strongly convex.

    Cost: per step some gradients of `inner` for each trial, and Hessian-vector products: those of the linear
    system, and for each constant that is not given as many as there are weights, or 50.

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


    found = kr.hyper.MAID(training, validation, max_iterations=5).minimize(np.zeros(5), np.zeros(1))
    print(found.hyperparameters, found.outer_loss)
    ```

    Reference: Mohammad Sadegh Salehi, Subhadip Mukherjee, Lindon Roberts and Matthias J. Ehrhardt, *An adaptively
    inexact first-order method for bilevel optimization with application to hyperparameter learning*, 2023,
    arXiv:2308.10098. The bound is that of the paper; the authors' code leaves $L_g$ out of two terms of it and
    takes $\eta = 10^{-4}$.
    """

    def __init__(
        self,
        inner: Callable,
        outer: Callable,
        strong_convexity: float | None = None,
        inner_lipschitz: float | None = None,
        outer_lipschitz: float | None = None,
        epsilon: float = 0.1,
        delta: float = 0.1,
        step_size: float = 0.1,
        rho: float = 0.5,
        accuracy_decrease: float = 0.5,
        accuracy_increase: float = 1.25,
        step_increase: float = 10 / 9,
        eta: float = 0.5,
        backtracking: int = 10,
        max_iterations: int = 100,
        jacobian_lipschitz: float = 0.0,
        inverse_hessian_lipschitz: float = 0.0,
    ):
        self.inner = inner
        self.outer = outer
        self.strong_convexity = check_number(
            "strong_convexity", strong_convexity, above=0, optional=True
        )
        self.inner_lipschitz = check_number(
            "inner_lipschitz", inner_lipschitz, above=0, optional=True
        )
        self.outer_lipschitz = check_number(
            "outer_lipschitz", outer_lipschitz, minimum=0, optional=True
        )
        self.epsilon = check_number("epsilon", epsilon, above=0)
        self.delta = check_number("delta", delta, above=0)
        self.step_size = check_number("step_size", step_size, above=0)
        self.rho = check_number("rho", rho, above=0, below=1)
        self.accuracy_decrease = check_number(
            "accuracy_decrease", accuracy_decrease, above=0, below=1
        )
        self.accuracy_increase = check_number("accuracy_increase", accuracy_increase, minimum=1)
        self.step_increase = check_number("step_increase", step_increase, minimum=1)
        self.eta = check_number("eta", eta, above=0, below=1)
        self.backtracking = check_integer("backtracking", backtracking, minimum=1)
        self.max_iterations = check_integer("max_iterations", max_iterations, minimum=1)
        self.jacobian_lipschitz = check_number("jacobian_lipschitz", jacobian_lipschitz, minimum=0)
        self.inverse_hessian_lipschitz = check_number(
            "inverse_hessian_lipschitz", inverse_hessian_lipschitz, minimum=0
        )

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
        history = History(problem, callback)
        w, a = problem.start
        problem.first_gradient(w, a)
        epsilon, delta, step, trials = self.epsilon, self.delta, self.step_size, self.backtracking
        q = None

        for _ in range(self.max_iterations):
            while True:
                constants = self._constants(problem, w, a)
                w = self._solved(problem, w, a, epsilon, constants, history)
                value, in_w, in_a = problem.outer(w, a)
                product = lambda v: problem.curved(w, a, v)[0]  # noqa: B023, E731
                q = conjugate_gradient(product, in_w, q, delta, MAX_PRODUCTS).x
                gradient = in_a - problem.curved(w, a, q)[1]
                size, slope = float(np.linalg.norm(gradient)), float(np.linalg.norm(in_w))
                bound = hypergradient_error_bound(
                    epsilon,
                    delta,
                    constants.jacobian,
                    constants.convexity,
                    slope,
                    constants.outer_lipschitz,
                    self.inverse_hessian_lipschitz,
                    self.jacobian_lipschitz,
                )
                if bound <= (1.0 - self.eta) * size:
                    break
                # At a stationary point no accuracy is enough.
                if epsilon < FLOOR:
                    history.add(a, outer_loss=value, gradient_norm=size, accuracy=epsilon)
                    return history.result(w, a, value, converged=True)
                epsilon, delta = epsilon * self.accuracy_decrease, delta * self.accuracy_decrease
            history.add(a, outer_loss=value, gradient_norm=size, accuracy=epsilon)

            before = value - _uncertainty(slope, epsilon, constants)
            found = None
            for trial in range(trials):
                length = step * self.rho**trial
                ahead = a - length * gradient
                there = self._solved(problem, w, ahead, epsilon, None, history)
                new, new_slope, _ = problem.outer(there, ahead)
                worst = new + _uncertainty(float(np.linalg.norm(new_slope)), epsilon, constants)
                if worst - before + self.eta**2 * length * size**2 <= 0:
                    found = there, ahead, new, length
                    break
            if found is None:
                epsilon, delta = epsilon * self.accuracy_decrease, delta * self.accuracy_decrease
                trials += 1
                if epsilon < FLOOR:
                    return history.result(w, a, value, converged=True)
                continue
            w, a, value, length = found
            step = length * self.step_increase
            epsilon, delta = epsilon * self.accuracy_increase, delta * self.accuracy_increase
            trials = self.backtracking
        return history.result(w, a, value, converged=False)

    def _constants(self, problem, w, a):
        convexity, lipschitz = self._curvature(problem, w, a)
        outer = self.outer_lipschitz
        if outer is None:
            outer = extreme_eigenvalues(lambda v: problem.outer_curved(w, a, v), w.size)[1]
        jacobian = operator_norm(
            lambda b: problem.mixed(w, a, b), lambda v: problem.curved(w, a, v)[1], a.size
        )
        return _Constants(convexity, lipschitz, max(outer, 0.0), jacobian)

    def _curvature(self, problem, w, a):
        convexity, lipschitz = self.strong_convexity, self.inner_lipschitz
        if convexity is None or lipschitz is None:
            smallest, largest = extreme_eigenvalues(
                lambda v: problem.curved(w, a, v)[0], w.size, smallest=convexity is None
            )
            convexity = smallest if convexity is None else convexity
            lipschitz = largest if lipschitz is None else lipschitz
        if not convexity > 0:
            raise ValueError(
                "The inner objective must be strongly convex in the weights. Received: smallest eigenvalue "
                f"{convexity:.3g} of its Hessian; add a penalty, or give `strong_convexity`."
            )
        return convexity, max(lipschitz, convexity)

    def _solved(self, problem, w, a, epsilon, constants, history):
        def function(w):
            history.work += 1
            return problem.inner(w, a)

        convexity, lipschitz = (
            self._curvature(problem, w, a) if constants is None else constants[:2]
        )
        return accelerated_gradient(function, w, convexity * epsilon, convexity, lipschitz)


def _uncertainty(slope, epsilon, constants):
    """By how much the outer objective at weights that are off by `epsilon` may be off."""
    return slope * epsilon + 0.5 * constants.outer_lipschitz * epsilon**2
