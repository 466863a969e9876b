"""The learning rate that weights before a normalization really have."""

from typing import Any

from keras import ops

from keras_regularize.numerics import upcast


def effective_learning_rate(w: Any, learning_rate: Any, adaptive: bool = False) -> Any:
    r"""The learning rate of the direction of weights whose length does not matter.

    $$\eta_{\mathrm{eff}} = \frac{\eta}{\lVert w \rVert_2^2}\quad\text{for SGD},\qquad
    \frac{\eta}{\lVert w \rVert_2}\quad\text{for Adam and its kin.}$$

    If a batch, layer or weight normalization follows a layer, scaling its kernel leaves the function as it is
    and shrinks the gradient. L2 regularization and weight decay then do not regularize the function: they only
    set the length, hence this rate, which settles at $\sqrt{2 \eta \lambda}/\lVert g_1 \rVert$ under SGD, for a
    penalty $\frac{\lambda}{2}\lVert w \rVert^2$ and gradients $g_1$ at unit length. Settings with the same
    product $\eta \lambda$ train alike.

    Args:
        w: Weights of any shape: an array, tensor or variable.
        learning_rate: $\eta$, a number.
        adaptive: Whether the optimizer divides gradients by their size.

    Returns:
        A scalar tensor in at least float32; infinite for zero weights.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    layer = keras.layers.Dense(8, use_bias=False)  # A BatchNormalization follows.
    layer.build((None, 4))
    rate = kr.analysis.effective_learning_rate(layer.kernel, 0.1)
    ```

    Reference: Twan van Laarhoven, *L2 Regularization versus Batch and Weight Normalization*, 2017,
    arXiv:1706.05350.
    """
    square = ops.sum(ops.square(upcast(w)))
    return learning_rate / (ops.sqrt(square) if adaptive else square)
