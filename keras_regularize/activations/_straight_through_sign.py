"""The sign, with a gradient."""

from typing import Any

from keras import ops

from keras_regularize.autodiff import straight_through
from keras_regularize.numerics import as_float, upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
def straight_through_sign(x: Any, temperature: float = 0.1) -> Any:
    r"""The sign of each entry, with the gradient of a steep hyperbolic tangent in its place.

    $$\operatorname{sign}(x) \in \{-1, 0, 1\}, \qquad \text{gradient of } \tanh(x / \tau):\quad
      \frac{1 - \tanh^2(x / \tau)}{\tau}.$$

    For codes of one bit per unit, which could not be trained by their own gradient, 0 almost everywhere. Entries
    further than some $\tau$ from 0 have no gradient: keep what goes in of the order of $\tau$ to 1.

    Args:
        x: Tensor of any shape.
        temperature: $\tau > 0$.

    Returns:
        A tensor of the shape and dtype of `x`; 0 at 0.

    Raises:
        ValueError: If `temperature` is not positive.

    Cost: a hyperbolic tangent.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    code = keras.layers.Dense(8, activation=kr.activations.straight_through_sign)
    code(np.ones((2, 4)))
    ```

    Reference: Alexander Shevchenko, Kevin Kögler, Hamed Hassani and Marco Mondelli, *Fundamental Limits of
    Two-layer Autoencoders, and Achieving Them with Gradient Methods*, ICML 2023, arXiv:2212.13468. The surrogate
    is the common one; the idea of Bengio, Léonard and Courville, *Estimating or Propagating Gradients Through
    Stochastic Neurons for Conditional Computation*, 2013, arXiv:1308.3432.
    """
    check_number("temperature", temperature, above=0)
    x = as_float(x)
    wide = upcast(x)
    return ops.cast(straight_through(ops.sign(wide), ops.tanh(wide / temperature)), x.dtype)
