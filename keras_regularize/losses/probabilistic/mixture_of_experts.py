"""Likelihood of a mixture of experts."""

from typing import Any

from keras import ops

from keras_regularize.losses.loss import Loss
from keras_regularize.losses.probabilistic.distributions import HALF_LOG_TAU
from keras_regularize.numerics import upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, compatible

#: Logarithms of standard deviations are kept within plus and minus that: a likelihood has no bound at scale 0.
LOG_SCALE_BOUND = 7.0


@export
class MixtureOfExpertsNLL(Loss):
    r"""Negative log-likelihood of targets under Gaussian experts and a gate that chooses among them.

    $$-\ln \sum_k g_k(x)\, \prod_j \mathcal N\big(y_j;\, \mu_{kj}(x), \sigma_{kj}^2\big), \qquad g =
      \operatorname{softmax} (a),$$

    summed in the logarithm. The order of experts does not matter; of equal ones the gate does not. For one output
    it is that of a mixture density network, `GaussianMixtureNegativeLogLikelihood`, with the logarithm of the
    scale predicted, here clipped to $\pm 7$.

    Args:
        num_experts: Number $K \ge 1$ of experts.
        reduction: Reduction of the values as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Targets `(batch, q)`, or `(batch,)` for $q = 1$.
        y_pred: `(batch, K + 2 K q)`: $K$ logits $a$, means expert by expert, logarithms of standard deviations in
            the same order, as `layers.GaussianMixtureOfExperts` gives them out.

    Returns:
        With `reduction="none"` one value per sample `(batch,)`, else a scalar. Axes between batch and parameters,
        such as time, are those of further targets.

    Raises:
        ValueError: If `num_experts` is no positive integer or the shapes do not fit.

    Cost: a few operations per expert and output.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(64, 8)), np.random.normal(size=(64, 2))
    model = keras.Sequential([kr.layers.GaussianMixtureOfExperts(3, 2)])
    model.compile("adam", kr.losses.MixtureOfExpertsNLL(3))
    model.fit(x, y, verbose=0)
    ```

    Reference: TrungTin Nguyen, Hien D. Nguyen, Faicel Chamroukhi and Geoffrey J. McLachlan, *Non-asymptotic oracle
    inequalities for the Lasso in high-dimensional mixture of experts*, 2020, arXiv:2009.10622; the model: Robert
    A. Jacobs, Michael I. Jordan, Steven J. Nowlan and Geoffrey E. Hinton, *Adaptive Mixtures of Local Experts*,
    Neural Computation 1991.
    """

    def __init__(
        self,
        num_experts: int,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "mixture_of_experts_nll",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.num_experts = check_integer("num_experts", num_experts, minimum=1)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        predicted = upcast(y_pred)
        y = ops.cast(ops.convert_to_tensor(y_true), predicted.dtype)
        experts, size = self.num_experts, predicted.shape[-1]
        outputs, rest = divmod(size - experts, 2 * experts)
        if len(y.shape) == len(predicted.shape) - 1 and outputs == 1:
            y = ops.expand_dims(y, -1)
        expected = (*predicted.shape[:-1], outputs)
        if outputs < 1 or rest or not compatible(y.shape, expected):
            raise ValueError(
                f"Expected targets (batch, q) and predictions (batch, K + 2 K q) of K = {experts} experts. "
                f"Received: y_true.shape={tuple(y.shape)}, y_pred.shape={tuple(predicted.shape)}"
            )
        before = ops.shape(predicted)[:-1]
        middle = experts * (1 + outputs)
        means = ops.reshape(predicted[..., experts:middle], (*before, experts, outputs))
        log_scales = ops.reshape(predicted[..., middle:], (*before, experts, outputs))
        log_scales = ops.clip(log_scales, -LOG_SCALE_BOUND, LOG_SCALE_BOUND)
        z = (ops.expand_dims(y, -2) - means) * ops.exp(-log_scales)
        costs = ops.sum(0.5 * z * z + log_scales + HALF_LOG_TAU, axis=-1)
        logs = ops.log_softmax(predicted[..., :experts], axis=-1) - costs
        # Twice: of large sums the shares of the experts are lost to rounding on PyTorch.
        total = ops.stop_gradient(ops.logsumexp(logs, axis=-1, keepdims=True))
        return -total[..., 0] - ops.logsumexp(logs - total, axis=-1)
