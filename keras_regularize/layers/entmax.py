"""Entmax as a layer, which can learn how sparse it is."""

import math
from typing import Any

import keras
from keras import ops

from keras_regularize.activations.sparse import entmax, entmax_of_learned
from keras_regularize.configuration import Configured
from keras_regularize.numerics import as_float, upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number

# Learned values stay this far from 1 and 2, where the sigmoid could reach them by rounding.
_MARGIN = 1e-4


@export
class Entmax(Configured, keras.layers.Layer):
    r"""Entmax as a layer: a softmax that gives exactly zero to low scores, and can learn from how far down.

    $$p_i = \big[(\alpha - 1)\,x_i - \tau\big]_+^{1 / (\alpha - 1)},
      \qquad \tau \text{ such that } \sum_i p_i = 1,$$

    between softmax ($\alpha = 1$) and sparsemax ($\alpha = 2$). With `learnable=True` it is
    $\alpha = 1 + \sigma(a)$ with a weight $a$ that is trained with the others, so that each attention head finds
    its own sparsity: give the axis of the heads as `alpha_axis`. The gradient is exact: with
    $s_i = p_i^{2-\alpha}$ and
    $q_i = -(s_i - p_i + (\alpha - 1)\, p_i \log p_i) / (\alpha - 1)^2$,

    $$\frac{\partial p_i}{\partial \alpha} = q_i - s_i\, \frac{\sum_j q_j}{\sum_j s_j}.$$

    `layer.alpha` is the present $\alpha$.

    Args:
        alpha: Sparsity $\alpha$, at least 1; if it is learned, its start, above 1 and below 2.
        axis: Axis along which the result sums to 1.
        learnable: Whether $\alpha$ is trained.
        alpha_axis: If learned, the axis of the input along which each index has an $\alpha$ of its own, whose
            size must be known; None for one in all.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: scores, a float tensor of any shape. Entries of `-inf` get probability 0. Output: probabilities with its
    shape and dtype; half precision is computed in float32.

    Raises:
        ValueError: If an argument is out of its range, or `alpha_axis` is given where nothing is learned, is that
            of the sum, the batch or none of the input.

    Cost: that of `kr.activations.entmax`; if learned, 30 passes over the scores.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    scores = keras.Input((8, 10, 10))  # Of 8 heads, before the softmax of attention.
    weights = kr.layers.Entmax(1.5, learnable=True, alpha_axis=1)(scores)
    model = keras.Model(scores, weights)
    ```

    Reference: Gonçalo M. Correia, Vlad Niculae and André F. T. Martins, *Adaptively Sparse Transformers*, EMNLP
    2019, arXiv:1909.00015.
    """

    def __init__(
        self,
        alpha: float = 1.5,
        axis: int = -1,
        learnable: bool = False,
        alpha_axis: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.initial_alpha = check_number("alpha", alpha, minimum=1)
        if learnable and not 1 + _MARGIN <= alpha <= 2 - _MARGIN:
            raise ValueError(
                f"`alpha` must be above 1 and below 2 where it is learned. Received: alpha={alpha!r}"
            )
        self.axis = check_integer("axis", axis)
        self.learnable = bool(learnable)
        self.alpha_axis = check_integer("alpha_axis", alpha_axis, optional=True)
        if alpha_axis is not None and not learnable:
            raise ValueError(
                f"`alpha_axis` needs `learnable=True`. Received: alpha_axis={alpha_axis!r}"
            )
        self.supports_masking = True
        if self.learnable and self.alpha_axis is None:
            self._add_logit(
                1
            )  # So that it can be the activation of another layer, which builds none.

    def _add_logit(self, size):
        start = self.initial_alpha - 1.0
        self.logit = self.add_weight(
            shape=(size,),
            initializer=keras.initializers.Constant(math.log(start / (1.0 - start))),
            dtype=self.variable_dtype,
            name="logit",
        )

    def build(self, input_shape: Any) -> None:
        if self.alpha_axis is not None:
            rank = len(input_shape)
            along = self.alpha_axis % rank if -rank <= self.alpha_axis < rank else 0
            if along in (0, self.axis % rank) or input_shape[along] is None:
                raise ValueError(
                    "`alpha_axis` must be an axis of known size of the input other than the first and `axis`. "
                    f"Received: alpha_axis={self.alpha_axis}, axis={self.axis}, input_shape={input_shape}"
                )
            self._add_logit(input_shape[along])
        self.built = True

    @property
    def alpha(self) -> Any:
        r"""The present $\alpha$: a number, or a tensor with one for each index of `alpha_axis`."""
        if not self.learnable:
            return self.initial_alpha
        return 1.0 + ops.clip(ops.sigmoid(upcast(self.logit)), _MARGIN, 1.0 - _MARGIN)

    def call(self, inputs: Any) -> Any:
        if not self.learnable:
            return entmax(inputs, self.initial_alpha, self.axis)
        inputs = as_float(inputs)
        if 0 in inputs.shape:
            return inputs
        rank = len(inputs.shape)
        shape = [1] * rank
        if self.alpha_axis is not None:
            shape[self.alpha_axis] = -1
        scores = upcast(inputs)
        alpha = ops.cast(ops.reshape(self.alpha, shape), scores.dtype)
        scores, alpha = (ops.moveaxis(t, self.axis, -1) for t in (scores, alpha))
        p = entmax_of_learned(scores, alpha)
        return ops.cast(ops.moveaxis(p, -1, self.axis), inputs.dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape
