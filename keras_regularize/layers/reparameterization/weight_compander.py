"""Weight compander: kernels of bounded size, away from zero."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.layers.reparameterization.kernels import kernels_of
from keras_regularize.layers.reparameterization.reparameterized import (
    Reparameterized,
    is_kernel,
    require_kernel,
)
from keras_regularize.numerics import upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class WeightCompander(Reparameterized):
    r"""Computes with an arctangent of the kernel, which bounds large weights and enlarges small ones.

    $$w = a \arctan(v / b), \qquad \frac{\partial w}{\partial v} = \frac{a/b}{1 + (v/b)^2},$$

    for the stored kernel $v$ of the wrapped layer. No weight exceeds $a\pi/2$, so none dominates; with $a >
    b$ the slope at zero is above one, so weights leave zero faster. Biases are not touched. For $b \to
    \infty$ with $a = b$ it is the plain layer.

    The effective kernel $w$ starts at what the initializer of the wrapped layer gives, or at the kernel of a layer
    that is built already, such as a pretrained one: $v = b \tan(w/a)$ is stored. Entries of $a\pi/2$ and beyond
    start just inside. `fold()` after training gives a plain layer with the kernel $w$.

    | | fixed, `trainable=False` | learnt, `trainable=True` |
    |---|---|---|
    | $a$, $b$ | the same for the whole network | a pair for each wrapped layer, trained with the rest |
    | values | searched in 0.5 … 1, see below | start at 0.5 and 1.0, the defaults |
    | `kernel_regularizer` | sees the effective kernel $w$ | sees the stored kernel $v$ |
    | paper, ResNet50 on CIFAR-10 | 93.31 → 94.06 % | 93.31 → 94.80 % |

    | fixed in the paper | CIFAR-10 | CIFAR-100 | ImageNet |
    |---|---|---|---|
    | ResNet18 | 1.0, 0.6 | | |
    | ResNet34 | 0.8, 0.5 | | |
    | ResNet50 | 1.0, 0.6 | 1.0, 0.8 | 0.6, 0.7 |

    Weight decay of the optimizer acts on $v$ in either case; leave a learnt `scale` and `width` out of it. The
    authors let Adam adapt to the gradient of $w$ and multiply its step by the slope; here Adam sees the gradient
    of $v$, from which it takes the slope out again, so the effect is weaker than with SGD.

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
        kr.layers.WeightCompander(keras.layers.Dense(10), scale=1.0, width=0.6, trainable=False),
    ])
    model(np.ones((2, 8, 8, 1)))
    ```

    Reference: Rinor Cakaj, Jens Mehnert and Bin Yang, *Weight Compander: A Simple Weight Reparameterization
    for Regularization*, IJCNN 2023, arXiv:2306.16993. The bound on a learnt $|b|$ is this package's.
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        scale: float = 0.5,
        width: float = 1.0,
        trainable: bool = True,
        **kwargs: Any,
    ):
        super().__init__(layer, **kwargs)
        self.initial_scale = check_number("scale", scale, above=0)
        self.initial_width = check_number("width", width, above=0)
        self.learned = bool(trainable)

    def build(self, *args: Any, **kwargs: Any) -> None:
        super().build(*args, **kwargs)
        require_kernel(self)
        self.scale = self._scalar("scale", lambda: self.initial_scale)
        self.width = self._scalar("width", self._start)
        if not self.learned:
            for kernel in kernels_of(self.layer):
                if kernel.regularizer is not None:
                    kernel.regularizer = _OfEffective(kernel.regularizer, self._companded)

    def _scalar(self, name, value):
        def initializer(shape, dtype=None):
            return ops.convert_to_tensor(value(), dtype=dtype)

        return self.add_weight((), initializer, trainable=self.learned, name=name)

    def _start(self):
        """The width, once the kernels are there, which now become what compands to their values.

        Run by the initializer of the last variable: Keras makes variables later than `build` where the model
        is only traced at first.
        """
        for kernel in kernels_of(self.layer):
            w = upcast(kernel.value)
            bound = 0.999 * np.pi / 2
            angle = ops.clip(w / self.initial_scale, -bound, bound)
            kernel.assign(ops.cast(self.initial_width * ops.tan(angle), kernel.dtype))
        return self.initial_width

    def _companded(self, value):
        return self.transform(value, self.initial_scale, self.initial_width)

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


class _OfEffective(keras.regularizers.Regularizer):
    """A regularizer of the effective kernel, set on the stored one."""

    def __init__(self, regularizer, effective):
        self.regularizer = regularizer
        self.effective = effective

    def __call__(self, x):
        return self.regularizer(self.effective(x))
