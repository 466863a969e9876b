"""The gradient of a validation loss in hyperparameters, by implicit differentiation."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_regularize.hyper.bilevel._linear import (
    Solution,
    conjugate_gradient,
    dense,
    neumann,
    positive_step,
)
from keras_regularize.hyper.bilevel._problem import Problem
from keras_regularize.validation import check_choice, check_integer, check_number


@dataclasses.dataclass(frozen=True, eq=False)
class HypergradientInfo:
    """How `hypergradient` solved its linear system.

    Attributes:
        solution: $q$ as one flat vector; pass it as `initial` after a small change of weights or hyperparameters.
        residual: Norm of $(H + \\delta I) q - \\nabla_w g$.
        iterations: Products with $H$.
        converged: Whether the residual is within the tolerance.
    """

    solution: np.ndarray
    residual: float
    iterations: int
    converged: bool


def hypergradient(
    inner: Callable,
    outer: Callable,
    weights: Any,
    hyperparameters: Any,
    solver: str = "cg",
    tolerance: float = 1e-4,
    max_iterations: int = 100,
    terms: int = 20,
    step_size: float | None = None,
    damping: float = 0.0,
    initial: Any = None,
    return_info: bool = False,
) -> Any:
    r"""Gradient of an outer objective in hyperparameters, at weights that minimize an inner one.

    With the inner (training) objective $h(w, a)$, the outer (validation) objective $g(w, a)$ and
    $w^*(a) = \arg\min_w h(w, a)$, the gradient of $f(a) = g(w^*(a), a)$ is

    $$\nabla f(a) = \nabla_a g - \frac{\partial^2 h}{\partial a\, \partial w}\, q, \qquad
    \Big(\frac{\partial^2 h}{\partial w^2} + \delta I\Big)\, q = \nabla_w g,$$

    at the given weights, which should be near $w^*(a)$: the error of the result is of the order of their distance.
    No training is unrolled. The solvers of the linear system:

    - `"cg"`: conjugate gradients from `initial`, until the residual is at most `tolerance` times
      $\|\nabla_w g\|$. They end where curvature is not positive: use `damping` or `"neumann"` for networks.
    - `"neumann"`: `terms` terms of $q = s \sum_j (I - s H)^j \nabla_w g$ with the step $s$, below twice the
      inverse of the largest eigenvalue.
    - `"one_step"`: the first of these terms, as if the weights had made one step of gradient descent.
    - `"exact"`: the whole matrix, a product for each weight.

    Args:
        inner: Function `(weights, hyperparameters) -> scalar` of `keras.ops`, twice differentiable;
            `kr.hyper.objective` makes one of a model.
        outer: Function of the same form.
        weights: A tensor, or a list or other structure of them; not changed.
        hyperparameters: A tensor, or a structure of them. Best unconstrained: the logarithm of a penalty.
        solver: `"cg"`, `"neumann"`, `"one_step"` or `"exact"`.
        tolerance: Relative residual of `"cg"`, at least 0.
        max_iterations: Most products of `"cg"`, at least 1.
        terms: Terms of `"neumann"`, at least 1.
        step_size: $s$ of `"neumann"` and `"one_step"`; by default the inverse of the largest eigenvalue, found by
            a power iteration.
        damping: $\delta$, at least 0.
        initial: Where `"cg"` starts: the `solution` of an earlier call.
        return_info: Whether to return `(gradient, info)`.

    Returns:
        The gradient as arrays in the structure of `hyperparameters`; with `return_info` also a frozen dataclass of
        `solution`, `residual`, `iterations` and `converged`.

    Raises:
        ValueError: If an argument is out of range or an objective is no scalar.

    Cost: a gradient of `outer`, one Hessian-vector product of `inner` (about two gradients) per iteration and one
    for the mixed derivative; a few vectors as large as the weights, on the host.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr
    from keras import ops

    x, y = (ops.convert_to_tensor(np.random.normal(size=s)) for s in [(2, 20, 5), (2, 20)])


    def training(w, a):
        return ops.sum((ops.matmul(x[0], w) - y[0]) ** 2) + ops.exp(a[0]) * ops.sum(w**2)


    def validation(w, a):
        return ops.sum((ops.matmul(x[1], w) - y[1]) ** 2)


    a = np.zeros(1)
    found = kr.hyper.HOAG(training, validation, max_iterations=1).minimize(np.zeros(5), a)
    kr.hyper.hypergradient(training, validation, found.weights, a)
    ```

    Reference: Fabian Pedregosa, *Hyperparameter optimization with approximate gradient*, ICML 2016,
    arXiv:1602.02355; the Neumann series, Jonathan Lorraine, Paul Vicol and David Duvenaud, *Optimizing Millions of
    Hyperparameters by Implicit Differentiation*, AISTATS 2020, arXiv:1911.02590.
    """
    check_choice("solver", solver, ("cg", "neumann", "one_step", "exact"))
    check_number("tolerance", tolerance, minimum=0)
    check_integer("max_iterations", max_iterations, minimum=1)
    check_integer("terms", terms, minimum=1)
    check_number("damping", damping, minimum=0)
    problem = Problem(inner, outer, weights, hyperparameters)
    w, a = problem.start
    _, in_w, in_a = problem.outer(w, a)

    def product(v):
        return problem.curved(w, a, v)[0] + damping * v

    if solver == "cg":
        start = None if initial is None else np.ravel(np.asarray(initial, "float64"))
        if start is not None and start.shape != w.shape:
            raise ValueError(
                f"`initial` must be a vector of {w.size} entries, as many as there are weights. "
                f"Received: {start.size}"
            )
        found = conjugate_gradient(
            product, in_w, start, tolerance * float(np.linalg.norm(in_w)), max_iterations
        )
    elif solver == "exact":
        x = np.linalg.solve(dense(product, w.size), in_w)
        found = Solution(x, float(np.linalg.norm(product(x) - in_w)), w.size, True)
    else:
        step = positive_step(step_size, product, w.size)
        found = neumann(product, in_w, terms if solver == "neumann" else 1, step)
    gradient = problem.hyperparameters(in_a - problem.curved(w, a, found.x)[1])
    if not return_info:
        return gradient
    return gradient, HypergradientInfo(found.x, found.residual, found.iterations, found.converged)
