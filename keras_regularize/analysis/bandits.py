"""Decisions whose losses an adversary chooses, of which only that of the chosen action is seen."""

from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_regularize.validation import check_integer, check_number


class LossEstimates(NamedTuple):
    """What `magnitude_reduced_losses` estimates.

    Attributes:
        unbiased: The estimates of least squares `(actions,)`.
        reduced: Those of the same mean that are hardly negative, `(actions,)`.
    """

    unbiased: np.ndarray
    reduced: np.ndarray


def magnitude_reduced_losses(
    features: Any,
    chosen: Any,
    loss: float,
    inverse_covariance: Any,
    sampled_features: Any,
    scale: float = 1.0,
) -> LossEstimates:
    r"""Estimates the losses of all actions from that of the chosen one, without very negative estimates.

    Losses are linear in the features $\phi_a$ of the actions. With $\Sigma = \mathbb E\, \phi \phi^\top$ under the
    policy, and the features $\phi$ of an action drawn from it, whose loss is $\ell$,

    $$\hat L_a = \phi_a^\top \Sigma^{-1} \phi\, \ell, \qquad
      \tilde L_a = \hat L_a - H \min(\phi_a^\top \Sigma^{-1} \phi, 0)
      + \frac{H}{M} \sum_{m=1}^{M} \min(\phi_a^\top \Sigma^{-1} \phi_m, 0)$$

    have the same mean, the loss of $a$, if $\phi_m$ are further draws from the policy. For $0 \le \ell \le H$ the
    first two terms of $\tilde L$ are not negative together: it is as low only as a mean of many, where $\hat L$ of
    an action that the policy seldom takes may be arbitrarily low. Exponential weights tolerate it,
    for which a very negative estimate is a jump; `kr.analysis.LogBarrierFTRL` tolerates $\hat L$ itself.

    Args:
        features: $\phi_a$ of all actions, `(actions, dim)`.
        chosen: $\phi$ of the chosen one, `(dim,)`.
        loss: $\ell$, its loss.
        inverse_covariance: $\Sigma^{-1}$ `(dim, dim)`, or an estimate of it.
        sampled_features: $\phi_m$ of actions drawn from the same policy, `(samples, dim)`, at least one.
        scale: $H > 0$, the largest loss.

    Returns:
        A named tuple of float64 arrays `(actions,)`: `unbiased`, $\hat L$, and `reduced`, $\tilde L$.

    Raises:
        ValueError: If shapes do not fit, `scale` is not positive, or the loss is outside of 0 and `scale`.

    Cost: products of the features of actions with those of samples.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    features, rng = np.eye(3), np.random.default_rng(0)
    p = np.array([0.8, 0.1, 0.1])
    chosen, *samples = rng.choice(3, size=9, p=p)
    estimates = kr.analysis.magnitude_reduced_losses(
        features, features[chosen], 0.5, np.diag(1 / p), features[samples]
    )
    ```

    Reference: Yan Dai, Haipeng Luo, Chen-Yu Wei and Julian Zimmert, *Refined Regret for Adversarial MDPs with
    Linear Function Approximation*, ICML 2023, arXiv:2301.12942. Of the paper the abstract was read; the estimator
    is recalled, that it is unbiased is tested.
    """
    check_number("scale", scale, above=0)
    check_number("loss", loss, minimum=0, maximum=scale)
    rows, phi, inverse, samples = (
        np.asarray(array, "float64")
        for array in (features, chosen, inverse_covariance, sampled_features)
    )
    dim = rows.shape[-1:]
    fits = rows.ndim == samples.ndim == 2 and phi.shape == samples.shape[1:] == dim
    if not fits or inverse.shape != 2 * dim or not len(samples):
        raise ValueError(
            "Expected features (actions, dim), chosen (dim,), inverse_covariance (dim, dim) and sampled_features "
            f"(samples, dim) with at least one row. Received shapes {rows.shape}, {phi.shape}, {inverse.shape} "
            f"and {samples.shape}"
        )
    projected = rows @ inverse
    own = projected @ phi
    mean = np.minimum(projected @ samples.T, 0.0).mean(axis=1)
    return LossEstimates(own * loss, own * loss - scale * np.minimum(own, 0.0) + scale * mean)


class LogBarrierFTRL:
    r"""Follows the regularized leader, with a barrier that bears losses however negative.

    After losses $\hat\ell_1, \dots, \hat\ell_t$ the policy is

    $$p_{t+1} = \arg\min_{p \in \Delta}\; \eta \sum_{s \le t} \langle p, \hat\ell_s \rangle - \sum_a \log p_a$$

    (`kr.activations.log_barrier_simplex`). Exponential weights, with the entropy as the regularizer, have a regret
    that grows with the square of the largest negative estimate, which for an action of probability $p_a$ is of the
    order $1 / p_a$; here an estimate counts at most as $p_a^2 \hat\ell_a^2$, so that unbiased estimates may be
    used as they are.

    Args:
        actions: Number of actions, at least 1.
        learning_rate: $\eta > 0$, of the order $\sqrt{K \log T / T}$ for $K$ actions and $T$ rounds.
        states: Number of states with a policy each, at least 1; `None` for a single policy.

    Attributes:
        probabilities: The policy, float64 `(actions,)` or `(states, actions)`.
        losses: The sum of losses so far.

    Raises:
        ValueError: If an argument is out of range.

    Cost: an update is a few dozen passes over the losses, in NumPy: tens of microseconds for a few actions.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    policy, loss = kr.analysis.LogBarrierFTRL(3, learning_rate=0.1), np.array([0.2, 0.5, 0.9])
    for t in range(100):
        action = policy.sample(seed=t)
        estimate = np.zeros(3)
        estimate[action] = loss[action] / policy.probabilities[action]
        policy.update(estimate)
    ```

    Reference: Yan Dai, Haipeng Luo, Chen-Yu Wei and Julian Zimmert, *Refined Regret for Adversarial MDPs with
    Linear Function Approximation*, ICML 2023, arXiv:2301.12942. Of the paper the abstract was read.
    """

    def __init__(self, actions: int, learning_rate: float, states: int | None = None):
        self.actions = check_integer("actions", actions, minimum=1)
        self.learning_rate = check_number("learning_rate", learning_rate, above=0)
        self.states = check_integer("states", states, minimum=1, optional=True)
        self.losses = np.zeros((actions,) if states is None else (states, actions))
        self.probabilities = np.full_like(self.losses, 1.0 / self.actions)

    def update(self, loss_estimates: Any) -> None:
        """Adds losses and moves the policy.

        Args:
            loss_estimates: `(actions,)` or `(states, actions)`, of any sign.
        """
        losses = np.asarray(ops.convert_to_numpy(loss_estimates), "float64")
        if losses.shape != self.losses.shape or not np.isfinite(losses).all():
            raise ValueError(
                f"`loss_estimates` must be finite numbers of shape {self.losses.shape}. Received: "
                f"loss_estimates={loss_estimates!r}"
            )
        self.losses = self.losses + losses
        # A constant for all actions changes nothing, and would cost digits.
        scores = self.losses.min(axis=-1, keepdims=True) - self.losses
        self.probabilities = _log_barrier(-self.learning_rate * scores)

    def sample(self, seed: Any = None, state: int | None = None) -> int:
        """Draws an action.

        Args:
            seed: Integer, or a `numpy.random.Generator`, which moves on.
            state: Position of the state, where there are several.
        """
        if (state is None) != (self.states is None):
            raise ValueError(
                f"`sample` needs a `state` if, and only if, there are several. Received: {state}"
            )
        if self.states is not None:
            state = check_integer("state", state, minimum=0, maximum=self.states - 1)
        p = self.probabilities if state is None else self.probabilities[state]
        return int(np.random.default_rng(seed).choice(self.actions, p=p))


def _log_barrier(gaps):
    """`activations.log_barrier_simplex` in float64, of how far scores are below the largest."""
    t = np.ones((*gaps.shape[:-1], 1))
    for _ in range(100):  # Newton's steps, which never go too far.
        inverse = 1.0 / (t + gaps)
        total = inverse.sum(axis=-1, keepdims=True)
        step = total * (total - 1.0) / (inverse**2).sum(axis=-1, keepdims=True)
        t += step
        if (step <= 1e-14 * t).all():
            break
    p = 1.0 / (t + gaps)
    return p / p.sum(axis=-1, keepdims=True)
