"""Minimizers of an inner objective, up to a norm of its gradient."""

import importlib
import importlib.util
import math
from collections.abc import Callable

import numpy as np

ValueAndGradient = Callable[[np.ndarray], tuple[float, np.ndarray]]


def lbfgs(function: ValueAndGradient, w: np.ndarray, tolerance: float) -> np.ndarray:
    """Where SciPy's L-BFGS ends: at a gradient whose norm is at most `tolerance`, unless rounding stops it."""
    if not importlib.util.find_spec("scipy"):
        raise ImportError(
            "`inner_solver='lbfgs'` is that of SciPy: `pip install scipy`, or pass a function of your own."
        )
    minimize = importlib.import_module("scipy.optimize").minimize
    # SciPy looks at the largest entry of the gradient.
    options = {"gtol": tolerance / math.sqrt(w.size), "ftol": 0.0, "maxiter": 1000, "maxcor": 20}
    return minimize(function, w, jac=True, method="L-BFGS-B", options=options).x


def accelerated_gradient(
    function: ValueAndGradient,
    w: np.ndarray,
    tolerance: float,
    convexity: float,
    lipschitz: float,
    max_iterations: int = 20000,
) -> np.ndarray:
    """Nesterov's method for strongly convex functions, where the gradient's norm is at most `tolerance`.

    `lipschitz` is doubled where the gradient grows, as it may where the function is not quadratic. It ends as well
    where rounding keeps the gradient from getting smaller.
    """
    ahead, best, least, since = w, w, math.inf, 0
    for _ in range(max_iterations):
        gradient = function(ahead)[1]
        size = float(np.linalg.norm(gradient))
        if not math.isfinite(size) or size > 100.0 * least:
            ahead = w = best
            lipschitz, least, since = 2.0 * lipschitz, math.inf, 0
            continue
        since += 1
        if size < least:
            best, least, since = ahead, size, 0
        if least <= tolerance or since > 20 + 10 * math.sqrt(lipschitz / convexity):
            break
        new = ahead - gradient / lipschitz
        ratio = math.sqrt(min(convexity / lipschitz, 1.0))
        ahead = new + (1.0 - ratio) / (1.0 + ratio) * (new - w)
        w = new
    return best
