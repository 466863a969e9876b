"""A guarantee for a policy that was learnt from the logs of another one."""

import math
from typing import Any

import numpy as np

from keras_regularize.numerics import TINY
from keras_regularize.validation import check_integer, check_number


def off_policy_bound(
    policy: Any,
    propensities: Any,
    actions: Any,
    costs: Any,
    kl: float,
    alpha: float,
    num_samples: int,
    delta: float = 0.05,
    lam: float | None = None,
) -> float:
    r"""A PAC-Bayes bound on the true cost of a policy, from the logs of another one.

    With probability at least $1 - \delta$ over $n$ logged samples, a policy $\pi$, itself the mean over a
    posterior that has divergence $KL$ from a prior, costs at most

    $$\hat R + B + \sqrt{\frac{KL + \ln(4 \sqrt n / \delta)}{2 n}} + \frac{KL + \ln(4 / \delta)}{n \lambda}
      + \frac{\lambda}{2} (V_1 + V_2),$$

    where $\pi_0$ is the logging policy, and, in means over the logged $(x_i, a_i, c_i)$,

    $$\hat R = \overline{c\, \tfrac{\pi(a | x)}{\pi_0(a | x)^\alpha}}, \quad
      B = 1 - \overline{\textstyle\sum_a \pi \pi_0^{1 - \alpha}}, \quad
      V_1 = \overline{\textstyle\sum_a \pi\, \pi_0^{1 - 2 \alpha}}, \quad
      V_2 = \overline{c^2\, \tfrac{\pi(a | x)}{\pi_0(a | x)^{2 \alpha}}} .$$

    $\hat R$ is the loss of `kr.losses.SmoothedIPS`. Smaller $\alpha$ means more bias $B$ and less variance;
    compare the bound for several, on data that chose neither. A bound of -0.4 says that the policy
    earns at least 0.4 an action.

    Args:
        policy: Probabilities $\pi(\cdot | x_i)$ of all actions, `(m, actions)`.
        propensities: Those of the logging policy, `(m, actions)`; below 1e-30 they count as 1e-30.
        actions: Logged actions `(m,)`, integers.
        costs: Their costs `(m,)` in `[-1, 0]`, minus the rewards.
        kl: Divergence $KL \ge 0$ of the posterior from the prior, whose mean is the logging policy as a rule. For
            Gaussian weights $N(\mu, \operatorname{diag} s^2)$ against $N(\mu_0, I)$ it is
            $\frac12 \big(\sum_j (s_j^2 - 2 \ln s_j - 1) + \|\mu - \mu_0\|^2\big)$.
        alpha: $\alpha$ in `[0, 1]`.
        num_samples: Number $n \ge 1$ of samples that the bound is for; $m$, or more if the rows are a sample of
            them.
        delta: Probability that the bound fails, above 0 and at most 1.
        lam: $\lambda > 0$. `None` for that which makes the bound smallest,
            $\sqrt{2 (KL + \ln(4/\delta)) / (n (V_1 + V_2))}$; as it depends on the data, the guarantee then
            needs a union bound over a grid of values, which costs little.

    Returns:
        The bound, a float.

    Raises:
        ValueError: If an argument is out of its range, or the shapes do not fit.

    Cost: a few passes over the probabilities.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    rng = np.random.default_rng(0)
    propensities = rng.dirichlet(np.ones(3), size=500)
    actions = np.array([rng.choice(3, p=p) for p in propensities])
    policy = rng.dirichlet(np.ones(3), size=500)
    kr.analysis.off_policy_bound(policy, propensities, actions, -rng.random(500), 2.0, 0.8, 500)
    ```

    Reference: Imad Aouali, Victor-Emmanuel Brunel, David Rohde and Anna Korba, *Exponential Smoothing for
    Off-Policy Learning*, ICML 2023, arXiv:2305.15877. Their code takes another $\lambda$, which does not
    minimize the expression.
    """
    check_number("kl", kl, minimum=0)
    check_number("alpha", alpha, minimum=0, maximum=1)
    check_integer("num_samples", num_samples, minimum=1)
    check_number("delta", delta, above=0, maximum=1)
    if lam is not None:
        check_number("lam", lam, above=0)
    policy, logged, costs = (np.asarray(v, "float64") for v in (policy, propensities, costs))
    actions = np.asarray(actions)
    rows = policy.shape[:1]
    if policy.ndim != 2 or logged.shape != policy.shape or not rows == actions.shape == costs.shape:
        raise ValueError(
            "Expected probabilities (n, actions) of both policies, and actions and costs (n,). Received: "
            f"policy.shape={policy.shape}, propensities.shape={logged.shape}, "
            f"actions.shape={actions.shape}, costs.shape={costs.shape}"
        )
    if not np.all(np.isin(actions, np.arange(policy.shape[1]))):
        raise ValueError(
            f"`actions` must be integers from 0 to {policy.shape[1] - 1}. Received: actions={actions}"
        )
    if np.any(costs > 0) or np.any(costs < -1):
        raise ValueError(
            "`costs` must lie in [-1, 0]: minus the rewards. "
            f"Received costs from {costs.min()} to {costs.max()}"
        )
    log = np.log(np.maximum(logged, TINY))
    chosen = np.arange(len(costs)), actions.astype("int64")
    risk = np.mean(costs * policy[chosen] * np.exp(-alpha * log[chosen]))
    bias = 1.0 - np.mean(np.sum(policy * np.exp((1.0 - alpha) * log), axis=1))
    variance = np.mean(np.sum(policy * np.exp((1.0 - 2.0 * alpha) * log), axis=1))
    variance += np.mean(costs**2 * policy[chosen] * np.exp(-2.0 * alpha * log[chosen]))
    n, complexity = num_samples, kl + math.log(4.0 / delta)
    deviation = math.sqrt((complexity + 0.5 * math.log(n)) / (2.0 * n))
    if lam is None:
        lam = math.sqrt(2.0 * complexity / (n * variance))
    return float(risk + bias + deviation + complexity / (n * lam) + 0.5 * lam * variance)
