"""How far a hypergradient can be off."""

from keras_regularize.validation import check_number


def hypergradient_error_bound(
    epsilon: float,
    delta: float,
    jacobian_norm: float,
    strong_convexity: float,
    outer_gradient_norm: float,
    outer_lipschitz: float,
    inverse_hessian_lipschitz: float = 0.0,
    jacobian_lipschitz: float = 0.0,
) -> float:
    r"""Bound on the error of a hypergradient, from what was measured where it was taken.

    $$\omega = c\,\epsilon + \frac{\|B\|}{\mu}\, \delta + \frac{L_B L_g}{\mu}\, \epsilon^2, \qquad
    c = \frac{L_g \|B\|}{\mu} + L_{H^{-1}} \|\nabla g\| \|B\| + \frac{L_B \|\nabla g\|}{\mu}$$

    for weights within $\epsilon$ of the minimizer of the inner objective, a linear system solved to a residual of
    $\delta$, and $B = \partial^2 h / \partial a\, \partial w$. If $\omega$ is below the length of the
    hypergradient, minus the hypergradient leads downhill for certain.

    Args:
        epsilon: $\epsilon$, at least 0.
        delta: $\delta$, at least 0.
        jacobian_norm: $\|B\|$, at least 0.
        strong_convexity: $\mu$ of the inner objective in the weights, above 0.
        outer_gradient_norm: $\|\nabla g\|$ in the weights, at least 0.
        outer_lipschitz: $L_g$, Lipschitz constant of that gradient, at least 0.
        inverse_hessian_lipschitz: $L_{H^{-1}}$, of the inverse of the inner Hessian; 0 for a quadratic.
        jacobian_lipschitz: $L_B$, of $B$; 0 for a quadratic.

    Returns:
        A float.

    Raises:
        ValueError: If a number is out of range.

    Cost: none.

    Example:

    ```python
    import keras_regularize as kr

    kr.hyper.hypergradient_error_bound(1e-3, 1e-3, 2.0, 0.5, 1.5, 3.0)  # 0.016
    ```

    Reference: Mohammad Sadegh Salehi, Subhadip Mukherjee, Lindon Roberts and Matthias J. Ehrhardt, *An adaptively
    inexact first-order method for bilevel optimization with application to hyperparameter learning*, 2023,
    arXiv:2308.10098. Their code leaves $L_g$ out of two terms.
    """
    for name, value in {
        "epsilon": epsilon,
        "delta": delta,
        "jacobian_norm": jacobian_norm,
        "outer_gradient_norm": outer_gradient_norm,
        "outer_lipschitz": outer_lipschitz,
        "inverse_hessian_lipschitz": inverse_hessian_lipschitz,
        "jacobian_lipschitz": jacobian_lipschitz,
    }.items():
        check_number(name, value, minimum=0)
    check_number("strong_convexity", strong_convexity, above=0)
    first_order = (
        outer_lipschitz * jacobian_norm / strong_convexity
        + inverse_hessian_lipschitz * outer_gradient_norm * jacobian_norm
        + jacobian_lipschitz * outer_gradient_norm / strong_convexity
    )
    return (
        first_order * epsilon
        + jacobian_norm * delta / strong_convexity
        + jacobian_lipschitz * outer_lipschitz / strong_convexity * epsilon**2
    )
