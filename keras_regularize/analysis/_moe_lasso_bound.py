"""How strongly the Lasso must act for its guarantee in a mixture of experts."""

import math

from keras_regularize.validation import check_integer, check_number


def moe_lasso_bound(
    num_samples: int,
    num_features: int,
    num_outputs: int,
    num_experts: int,
    covariance_bound: float,
    gate_bound: float,
    mean_bound: float,
    kappa: float = 148.0,
) -> float:
    r"""A factor of the Lasso from which on its estimate of a mixture of experts has a guarantee.

    For $n$ samples of $p$ features in $[0, 1]$ and $q$ outputs, and $K$ experts, an oracle inequality in the
    Kullback-Leibler divergence holds if

    $$\lambda \ge \kappa\, \frac{K B_n}{\sqrt n} \Big(q \ln n \sqrt{\ln(2 p + 1)} + 1\Big), \quad B_n =
      \max(A_\Sigma, 1 + K A_G) \Big(1 + 2 q \sqrt q\, A_\Sigma \big(5 A_\beta^2 + 4 A_\Sigma \ln n\big)\Big).$$

    Experimental: the constants are recalled, not read. The value is by orders of magnitude above factors that
    predict best; what it shows is how these grow, with $\sqrt{\ln p / n}$: choose the factor on held-out data.

    Args:
        num_samples: $n \ge 1$.
        num_features: $p \ge 1$.
        num_outputs: $q \ge 1$.
        num_experts: $K \ge 1$.
        covariance_bound: $A_\Sigma > 0$, of the eigenvalues of covariances and their inverses.
        gate_bound: $A_G \ge 0$, of the values of the gate's logits.
        mean_bound: $A_\beta \ge 0$, of the values of the means.
        kappa: $\kappa > 0$; the theorem has at least 148.

    Returns:
        $\lambda$, a float, for the mean of the negative log-likelihood and the sum of the slopes' absolute values.

    Raises:
        ValueError: If an argument is out of its range.

    Cost: none.

    Example:

    ```python
    import keras_regularize as kr

    kr.analysis.moe_lasso_bound(
        10_000, 50, 1, 2, covariance_bound=1.0, gate_bound=1.0, mean_bound=1.0
    )
    ```

    Reference: TrungTin Nguyen, Hien D. Nguyen, Faicel Chamroukhi and Geoffrey J. McLachlan, *Non-asymptotic oracle
    inequalities for the Lasso in high-dimensional mixture of experts*, 2020, arXiv:2009.10622.
    """
    n = check_integer("num_samples", num_samples, minimum=1)
    p = check_integer("num_features", num_features, minimum=1)
    q = check_integer("num_outputs", num_outputs, minimum=1)
    experts = check_integer("num_experts", num_experts, minimum=1)
    covariance = check_number("covariance_bound", covariance_bound, above=0)
    gate = check_number("gate_bound", gate_bound, minimum=0)
    means = check_number("mean_bound", mean_bound, minimum=0)
    kappa = check_number("kappa", kappa, above=0)
    log_n = math.log(n)
    growth = 1.0 + 2.0 * q**1.5 * covariance * (5.0 * means**2 + 4.0 * covariance * log_n)
    bound = max(covariance, 1.0 + experts * gate) * growth
    features = q * log_n * math.sqrt(math.log(2 * p + 1)) + 1.0
    return kappa * experts * bound / math.sqrt(n) * features
