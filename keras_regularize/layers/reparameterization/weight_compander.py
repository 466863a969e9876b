"""Weight compander: kernels of bounded size, away from zero."""

from typing import Any

import keras
from keras import ops

from keras_regularize._export import export
from keras_regularize._validation import check_number
from keras_regularize.layers.reparameterization.reparameterized import (
    Reparameterized,
    is_kernel,
    require_kernel,
)
from keras_regularize.numerics import upcast


@export
class WeightCompander(Reparameterized):
    r"""Computes with an arctangent of the kernel, which bounds large weights and enlarges small ones.

    $$w = a \arctan(v / b), \qquad \frac{\partial w}{\partial v} = \frac{a/b}{1 + (v/b)^2},$$

    for the stored kernel $v$ of the wrapped layer. No weight exceeds $a\pi/2$, so none dominates; with $a >
    b$ the slope at zero is above one, so weights leave zero faster. Biases are not touched. For $b \to
    \infty$ with $a = b$ it is the plain layer. Optimizer, weight decay and initializer act on $v$; $a$ and
    $b$ are one number each per wrapped layer and can be learnt with the rest (exclude `scale` and `width`
    from weight decay).

    Around a pretrained layer, first set the kernel to $v = b \tan(w/a)$, for $|w| < a\pi/2$. After training,
    `fold()` gives a plain layer. The initial values of 1 are this package's choice.

    Args:
        layer: The layer to wrap; its kernels (also recurrent, depthwise and embeddings) are companded.
        scale: $a > 0$, initial value.
        width: $b > 0$, initial value. If it is learnt, $|b|$ counts as at least 1e-3, its sign kept.
        trainable: Whether $a$ and $b$ are learnt. The wrapped layer trains in either case.
        **kwargs: `name` and other arguments of `keras.layers.Layer`.

    Inputs and outputs: those of the wrapped layer. Weights: scale, width, then those of the layer.

    Raises:
        ValueError: If `scale` or `width` is not positive, or the layer has no kernel.

    Cost: one elementwise pass over the kernel.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    model = keras.Sequential([
        keras.Input((8, 8, 1)),
        kr.layers.WeightCompander(keras.layers.Conv2D(4, 3, activation="relu")),
        keras.layers.Flatten(),
        kr.layers.WeightCompander(keras.layers.Dense(10), scale=0.5, width=0.5),
    ])
    model(np.ones((2, 8, 8, 1)))
    ```

    Reference: Rinor Cakaj, Jens Mehnert and Bin Yang, *Weight Compander: A Simple Weight Reparameterization
    for Regularization*, 2023, arXiv:2306.16993.
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        scale: float = 1.0,
        width: float = 1.0,
        trainable: bool = True,
        **kwargs: Any,
    ):
        for name, value in (("scale", scale), ("width", width)):
            check_number(name, value, minimum=0)
            if value == 0:
                raise ValueError(f"`{name}` must be positive. Received: {name}={value}")
        super().__init__(layer, **kwargs)
        self.initial_scale = float(scale)
        self.initial_width = float(width)
        self.learned = bool(trainable)

    def build(self, *args: Any, **kwargs: Any) -> None:
        super().build(*args, **kwargs)
        require_kernel(self)
        self.scale = self._scalar("scale", self.initial_scale)
        self.width = self._scalar("width", self.initial_width)

    def _scalar(self, name, value):
        constant = keras.initializers.Constant(value)
        return self.add_weight((), constant, trainable=self.learned, name=name)

    def effective(self, name: str, value: Any) -> Any:
        return self.transform(value, self.scale, self.width) if is_kernel(name) else value

    @staticmethod
    def transform(w: Any, scale: Any, width: Any) -> Any:
        r"""$a \arctan(w / b)$ elementwise.

        Args:
            w: The stored weight $v$, of any shape.
            scale: $a$, a number or scalar tensor.
            width: $b$, likewise; $|b|$ counts as at least 1e-3.

        Returns:
            A tensor of the shape and dtype of `w`.
        """
        w = ops.convert_to_tensor(w)
        wide = upcast(w)
        scale, width = ops.cast(scale, wide.dtype), ops.cast(width, wide.dtype)
        floor = ops.where(width < 0, -1e-3, 1e-3)
        width = ops.where(ops.abs(width) < 1e-3, ops.cast(floor, wide.dtype), width)
        return ops.cast(scale * ops.arctan(wide / width), w.dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "scale": self.initial_scale,
            "width": self.initial_width,
            # A wrapper frozen after construction, whose layer's config says so too, stays frozen.
            "trainable": self.learned and self.trainable,
        }
