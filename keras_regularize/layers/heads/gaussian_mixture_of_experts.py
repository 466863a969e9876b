"""Linear experts and a gate that chooses among them."""

from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.registration import export
from keras_regularize.validation import check_integer


@export
class GaussianMixtureOfExperts(Configured, keras.layers.Layer):
    r"""Gives out the parameters of a mixture of linear Gaussian experts with a softmax gate.

    $$p(y \,|\, x) = \sum_k \operatorname{softmax}_k(W x + w_0)\; \mathcal N\big(y;\, B_k x + b_k,
      \operatorname{diag} \sigma_k^2\big).$$

    Each expert is a regression that holds in its part of the inputs, and the gate says which. Standard deviations
    do not depend on $x$, as in the paper, unless `heteroscedastic`. Train it with `losses.MixtureOfExpertsNLL`.
    The Lasso penalizes the slopes $W$ and $B$, not the intercepts: give both regularizers
    `keras.regularizers.L1(factor)`, or for exact zeros wrap the optimizer in `kr.optimizers.Proximal` instead.

    Args:
        num_experts: Number of experts, at least 1.
        output_dim: Number $q \ge 1$ of outputs.
        gate_regularizer: Keras regularizer of the gate's kernel $W$, or `None`.
        expert_regularizer: Keras regularizer of the experts' kernels $B$, or `None`.
        heteroscedastic: Whether the standard deviations depend on $x$ as well.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: `(batch, …, features)`. Output: `(batch, …, K + 2 K q)`: logits of the gate, means expert by expert,
    logarithms of standard deviations in the same order.

    Raises:
        ValueError: If a number is no positive integer.

    Cost: that of two dense layers.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x = np.random.normal(size=(64, 8))
    y = np.abs(x[:, :1])  # One expert for each side.
    lasso = keras.regularizers.L1(0.01)
    model = keras.Sequential([kr.layers.GaussianMixtureOfExperts(2, 1, lasso, lasso)])
    model.compile("adam", kr.losses.MixtureOfExpertsNLL(2))
    model.fit(x, y, verbose=0)
    ```

    Reference: TrungTin Nguyen, Hien D. Nguyen, Faicel Chamroukhi and Geoffrey J. McLachlan, *Non-asymptotic oracle
    inequalities for the Lasso in high-dimensional mixture of experts*, 2020, arXiv:2009.10622.
    """

    def __init__(
        self,
        num_experts: int,
        output_dim: int = 1,
        gate_regularizer: Any = None,
        expert_regularizer: Any = None,
        heteroscedastic: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.num_experts = check_integer("num_experts", num_experts, minimum=1)
        self.output_dim = check_integer("output_dim", output_dim, minimum=1)
        self.gate_regularizer = keras.regularizers.get(gate_regularizer)
        self.expert_regularizer = keras.regularizers.get(expert_regularizer)
        self.heteroscedastic = bool(heteroscedastic)
        size = self.num_experts * self.output_dim

        def dense(units, name, regularizer=None, start="glorot_uniform"):
            return keras.layers.Dense(
                units,
                kernel_initializer=start,
                kernel_regularizer=regularizer,
                dtype=self.dtype_policy,
                name=name,
            )

        self.gate = dense(self.num_experts, "gate", self.gate_regularizer)
        self.experts = dense(size, "experts", self.expert_regularizer)
        self.scales = dense(size, "scales", start="zeros") if self.heteroscedastic else None

    def build(self, input_shape: Any) -> None:
        for part in (self.gate, self.experts, self.scales):
            if part is not None:
                part.build(input_shape)
        if self.scales is None:
            shape = (self.num_experts * self.output_dim,)
            self.log_scales = self.add_weight(shape, "zeros", name="log_scales")

    def call(self, inputs: Any) -> Any:
        means = self.experts(inputs)
        if self.scales is None:
            log_scales = ops.zeros_like(means) + ops.cast(self.log_scales, means.dtype)
        else:
            log_scales = self.scales(inputs)
        return ops.concatenate([self.gate(inputs), means, log_scales], axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], self.num_experts * (1 + 2 * self.output_dim))
