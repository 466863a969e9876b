"""Norm loss: filters of unit length, softly."""

from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.registration import export
from keras_regularize.utils.groups import check_axis, group_norms
from keras_regularize.validation import check_number


@export
class NormLoss(Configured, keras.regularizers.Regularizer):
    r"""Pulls the norm of every filter towards one: weight decay whose sign flips below norm 1.

    $$\lambda \sum_f \left(1 - \lVert w_f \rVert_2\right)^2$$

    where $w_f$ are all weights that feed one output unit or channel. The gradient is
    $2\lambda\,(1 - 1/\lVert w_f\rVert)\, w_f$: long filters shrink as under L2, short ones grow, and the
    directions are free. It takes the place of weight decay on the kernels of dense and convolutional
    layers; `keras.constraints.UnitNorm` is the hard version. A zero filter costs `factor` and gets
    gradient zero.

    Args:
        factor: $\lambda \ge 0$. The paper reports little change between 1e-4 and 1e-1. The first author's code
            takes 1e-4 and, in place of a penalty, the step
            $w_f \leftarrow w_f - 2\eta\lambda\,(1 - 1/\lVert w_f\rVert)\, w_f$ after that of the optimizer: nearly
            the same with plain SGD at learning rate $\eta$.
        axis: Axes that index the filters: `-1` (default) for dense and convolutional kernels
            `(…, in, out)`, `(-2, -1)` for the kernels `(…, channels, multiplier)` of depthwise
            convolutions, `None` for the whole tensor as one filter.

    Input: a weight of any shape. Output: a scalar in at least float32.

    Raises:
        ValueError: If `factor` is not a non-negative number, or `axis` does not name axes of the weight.

    Cost: one pass over the weight.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    layer = keras.layers.Conv2D(16, 3, kernel_regularizer=kr.regularizers.NormLoss(0.01))
    ```

    Reference: Theodoros Georgiou, Sebastian Schmitt, Thomas Bäck, Wei Chen and Michael Lew, *Preprint: Norm
    Loss: An efficient yet effective regularization method for deep neural networks*, 2021, arXiv:2103.06583.
    """

    def __init__(self, factor: float = 0.01, axis: int | tuple[int, ...] | None = -1):
        self.factor = check_number("factor", factor, minimum=0)
        self.axis = check_axis(axis)

    def __call__(self, x: Any) -> Any:
        return self.factor * ops.sum(ops.square(1.0 - group_norms(x, self.axis)))
