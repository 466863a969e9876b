"""Descent on a manifold that a mixture of autoencoders has learnt."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_regularize import autodiff
from keras_regularize.autodiff import backend
from keras_regularize.numerics import matmul, upcast
from keras_regularize.validation import (
    check_choice,
    check_integer,
    check_number,
    compatible,
)

_LEAST_WEIGHT = 1e-6


def chart_gradient(jacobian: Any, gradient: Any) -> Any:
    r"""The gradient on a manifold, from that in the coordinates of a chart.

    $$J (J^\top J)^{-1} g$$

    for the Jacobian $J$ of the decoder $D$ and the gradient $g$ of $F \circ D$ in the coordinates: the Riemannian
    gradient of $F$, a direction in the space of the data, tangent to the manifold. It does not depend on which
    coordinates the chart takes. Directions of coordinates that do not move the point, singular values of $J$ below
    1e-6 of the largest, count as 0.

    Args:
        jacobian: $J$, `(batch, n, d)`.
        gradient: $g$, `(batch, d)`.

    Returns:
        Directions `(batch, n)`, in at least float32.

    Raises:
        ValueError: If the shapes do not fit.

    Cost: a singular value decomposition `(n, d)` per point.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    kr.inverse.chart_gradient(np.array([[[2.0], [0.0]]]), np.array([[3.0]]))  # [[1.5, 0]]
    ```

    Reference: Giovanni S. Alberti, Johannes Hertrich, Matteo Santacesaria and Silvia Sciutto, *Manifold Learning
    by Mixture Models of VAEs for Inverse Problems*, JMLR 2024, arXiv:2303.15244.
    """
    left, scaled, _ = _decomposed(jacobian, gradient)
    return matmul(left, scaled)[..., 0]


def _decomposed(jacobian, gradient):
    """`J = U S Vᵀ`: `U`, `S⁻¹ Vᵀ g` and `V S⁻¹`, of the singular values that are not 0."""
    jacobian = upcast(jacobian)
    gradient = ops.cast(upcast(gradient), jacobian.dtype)
    shapes = tuple(jacobian.shape), tuple(gradient.shape)
    if len(shapes[0]) != 3 or not compatible(shapes[1], (shapes[0][0], shapes[0][2])):
        raise ValueError(
            "Expected Jacobians (batch, n, d) and gradients (batch, d). "
            f"Received: jacobian.shape={shapes[0]}, gradient.shape={shapes[1]}"
        )
    left, values, right = ops.linalg.svd(jacobian, full_matrices=False)
    kept = values > 1e-6 * ops.max(values, axis=-1, keepdims=True)
    inverse = ops.where(kept, 1.0 / ops.where(kept, values, 1.0), 0.0)
    scaled = inverse[..., None] * matmul(right, gradient[..., None])
    return left, scaled, ops.swapaxes(right, -1, -2) * inverse[..., None, :]


class ManifoldDescent(NamedTuple):
    """Where `manifold_descent` ended.

    Attributes:
        points: The last points, an array `(batch, n)`.
        objectives: The objective at the start and after each step, `(steps + 1, batch)`.
    """

    points: np.ndarray
    objectives: np.ndarray


def manifold_descent(
    mixture: keras.Model,
    objective: Callable[[Any], Any],
    start: Any,
    step_size: float = 1e-2,
    steps: int = 500,
    retraction: str = "project",
    box_penalty: float = 0.1,
) -> ManifoldDescent:
    r"""Minimizes a function on the manifold that a `kr.models.MixtureVAE` has learnt.

    In an inverse problem $F(x) = \|A x - y\|^2$, the manifold is what is known of $x$. In each chart $k$ that is
    responsible for a point by at least 1e-6, with $z = E_k(x)$, the Jacobian $J$ of $D_k$ and
    $g = \nabla_z \big(F(D_k(z)) + \lambda \sum_j \max(|z_j| - 1, 0)\big)$, a step of length $\tau$ leads to

    | `retraction` | $x_k$ |
    |---|---|
    | `"project"` | $D_k\big(E_k(x - \tau J (J^\top J)^{-1} g)\big)$ |
    | `"chart"` | $D_k\big(z - \tau (J^\top J)^{-1} g\big)$ |

    and $x \leftarrow \sum_k w_k x_k$. A step that raises $F$ by more than a thousandth is not taken, and $\tau$
    halved; else $\tau$ grows by a half. Each point of a batch has a $\tau$ of its own.

    Args:
        mixture: The trained model, of data `(batch, n)`.
        objective: $F$: takes a tensor `(batch, n)` and gives a value per point `(batch,)`, by `keras.ops`.
        start: Points `(batch, n)`, or one, `(n,)`: near the manifold, such as `mixture.sample(1)`.
        step_size: $\tau > 0$ of the first step.
        steps: Number of steps, at least 0.
        retraction: `"project"` or `"chart"`.
        box_penalty: $\lambda \ge 0$, which keeps coordinates where a chart was trained.

    Returns:
        A named tuple of the last `points` and of the `objectives` on the way, arrays; without the axis of the
        batch for one point.

    Raises:
        ValueError: If an argument is out of range, or shapes do not fit.

    Cost: per step and chart two passes of the encoder, a gradient and $d$ forward derivatives of the decoder.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    model = kr.models.MixtureVAE([kr.generative.invertible_chart(2, 1, blocks=2)])
    target = keras.ops.convert_to_tensor([0.5, 0.5])
    found = kr.inverse.manifold_descent(
        model, lambda x: keras.ops.sum((x - target) ** 2, axis=-1), np.array([0.1, 0.2]), steps=3
    )
    ```

    Reference: Giovanni S. Alberti, Johannes Hertrich, Matteo Santacesaria and Silvia Sciutto, *Manifold Learning
    by Mixture Models of VAEs for Inverse Problems*, JMLR 2024, arXiv:2303.15244.
    """
    check_number("step_size", step_size, above=0)
    check_integer("steps", steps, minimum=0)
    check_choice("retraction", retraction, ("project", "chart"))
    check_number("box_penalty", box_penalty, minimum=0)
    x = upcast(ops.convert_to_tensor(start, dtype=mixture.compute_dtype))
    single = len(x.shape) == 1
    x = x[None] if single else x
    if len(x.shape) != 2:
        raise ValueError(
            f"`start` must be points (batch, n) or one point (n,). Received: shape={tuple(x.shape)}"
        )
    mixture(x)  # Builds.

    def value(points):
        values = objective(points)
        if not compatible(tuple(values.shape), tuple(points.shape)[:1]):
            raise ValueError(
                "`objective` must give a value per point (batch,). "
                f"Received: shape={tuple(values.shape)} for points of shape {tuple(points.shape)}"
            )
        return values

    def candidate(chart, x, size):
        codes = chart.encode(x)

        def penalized(codes):
            outside = ops.sum(ops.relu(ops.abs(codes) - 1.0))
            return ops.sum(value(chart.decode(codes))) + box_penalty * outside

        gradient = autodiff.grad(penalized)(codes)
        columns = [
            autodiff.jvp(chart.decode, codes, ops.zeros_like(codes) + direction)[1]
            for direction in ops.unstack(ops.eye(codes.shape[-1], dtype=codes.dtype))
        ]
        left, scaled, back = _decomposed(ops.stack(columns, axis=-1), gradient)
        if retraction == "chart":
            return chart.decode(codes - size * matmul(back, scaled)[..., 0])
        return chart.decode(chart.encode(x - size * matmul(left, scaled)[..., 0]))

    def step(x, before, size):
        weights = mixture.responsibilities(x)
        weights = ops.where(weights < _LEAST_WEIGHT, 0.0, weights)
        weights = weights / ops.sum(weights, axis=-1, keepdims=True)
        moved = [
            ops.where(weights[:, k : k + 1] > 0, candidate(chart, x, size[:, None]), x)
            for k, chart in enumerate(mixture.charts)
        ]
        new = sum(weights[:, k : k + 1] * point for k, point in enumerate(moved))
        after = value(new)
        taken = after <= before + 1e-3 * ops.abs(before)
        return (
            ops.where(taken[:, None], new, x),
            ops.where(taken, after, before),
            size * ops.where(taken, 1.5, 0.5),
        )

    run = backend.compiled(step)
    after = ops.stop_gradient(value(x))
    size = step_size * ops.ones_like(x[:, 0])
    objectives = [after]
    for _ in range(steps):
        x, after, size = run(x, after, size)
        objectives.append(after)
    points = np.asarray(ops.convert_to_numpy(x))
    found = np.stack([np.asarray(ops.convert_to_numpy(values)) for values in objectives])
    return ManifoldDescent(points[0], found[:, 0]) if single else ManifoldDescent(points, found)
