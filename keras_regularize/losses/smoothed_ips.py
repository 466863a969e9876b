"""Off-policy learning with smoothed importance weights."""

from keras import ops

from keras_regularize.labels import at_label
from keras_regularize.losses.loss import Loss
from keras_regularize.numerics import TINY, maximum, upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_number, compatible


@export
class SmoothedIPS(Loss):
    r"""Learns a policy from logged actions and their costs, with exponentially smoothed importance weights.

    For an action $a$ logged with propensity $\pi_0(a)$ and cost $c$, and a policy $\pi$,

    $$\ell = c\, \frac{\pi(a \mid x)}{\pi_0(a)^\alpha} .$$

    $\alpha = 1$ is inverse propensity scoring: unbiased, but with weights up to $1 / \pi_0$. Smaller $\alpha$
    trades some bias for much less variance, and unlike clipping it keeps the order of the propensities; the
    authors suggest $\alpha = 1 - n^{-1/4}$ for $n$ samples. $\alpha = 0$ does not weight.

    Args:
        alpha: $\alpha$ in `[0, 1]`.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Rows `(batch, 3)` of the logged action's number, its propensity under the logging policy (below
            1e-30 it counts as 1e-30) and its cost. Costs are minus rewards, in `[-1, 0]` by the theory.
        y_pred: Probabilities of all actions under the policy, `(batch, actions)`.

    Returns:
        With `reduction="none"` one value per sample `(batch,)`, else a scalar.

    Raises:
        ValueError: If `alpha` is outside `[0, 1]`, or if the shapes do not fit.

    Cost: one gather and a power per sample.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, action = np.random.normal(size=(64, 8)), np.random.randint(0, 3, size=64)
    propensity, reward = np.full(64, 1 / 3), np.random.rand(64)
    logged = np.stack([action, propensity, -reward], axis=1)
    policy = keras.Sequential([keras.layers.Dense(3, activation="softmax")])
    policy.compile("adam", loss=kr.losses.SmoothedIPS(alpha=0.7))
    policy.fit(x, logged, verbose=0)
    ```

    Reference: Imad Aouali, Victor-Emmanuel Brunel, David Rohde and Anna Korba, *Exponential Smoothing for
    Off-Policy Learning*, ICML 2023, arXiv:2305.15877.
    """

    from_logits = False

    def __init__(
        self,
        alpha: float = 0.9,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "smoothed_ips",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.alpha = check_number("alpha", alpha, minimum=0, maximum=1)

    def call(self, y_true, y_pred):
        policy = upcast(y_pred)
        logged = ops.cast(ops.convert_to_tensor(y_true), policy.dtype)
        if len(policy.shape) != 2 or not compatible(logged.shape, (policy.shape[0], 3)):
            raise ValueError(
                "Expected rows (batch, 3) of action, propensity and cost, and probabilities (batch, actions). "
                f"Received: y_true.shape={tuple(logged.shape)}, y_pred.shape={tuple(policy.shape)}"
            )
        action, propensity, cost = ops.unstack(logged, 3, axis=-1)
        weight = ops.exp(-self.alpha * ops.log(maximum(propensity, TINY)))
        return cost * weight * at_label(action, policy)
