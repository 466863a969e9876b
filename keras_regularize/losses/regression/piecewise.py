"""Losses of one form for small errors and another for large ones."""

import math

from keras import ops

from keras_regularize.losses._coupled import BatchCoupledLoss, present
from keras_regularize.losses.loss import Loss
from keras_regularize.numerics import minimum, safe_abs
from keras_regularize.registration import export
from keras_regularize.targets import align_targets, mean_of_outputs
from keras_regularize.validation import check_number


@export
class BalancedL1(Loss):
    r"""L1 loss whose gradient rises fast for small errors and is bounded for large ones: for boxes of detectors.

    For $d = |\hat y - y|$ and $b = e^{\gamma / \alpha} - 1$,

    $$\ell = \begin{cases}
      \frac{\alpha}{b} (b d + 1) \log\big(\frac{b d}{\beta} + 1\big) - \alpha d & d < \beta, \\
      \gamma d + \frac{\gamma}{b} - \alpha \beta & \text{else.} \end{cases}$$

    Smooth L1 lets outliers, of gradient 1, outweigh the accurate samples, of gradient $d$. Here the accurate ones
    gain: a smaller $\alpha$ gives them more, and $\gamma$ is the largest gradient. Only for the $\beta = 1$ of the
    paper has the gradient no jump at $\beta$.

    Args:
        alpha: $\alpha > 0$.
        gamma: $\gamma > 0$, the gradient of large errors.
        beta: $\beta > 0$, where large errors begin.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Targets `(batch, …, outputs)` or `(batch,)`, such as the offsets of boxes.
        y_pred: Predictions of the same shape. A last axis of size 1 may be missing on either side.

    Returns:
        With `reduction="none"` values `(batch, …)`, the mean over outputs; else a scalar.

    Raises:
        ValueError: If an argument is not positive, or the shapes do not fit.

    Cost: that of absolute error and a logarithm.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    y_true, y_pred = np.zeros((2, 4)), np.random.normal(size=(2, 4))
    kr.losses.BalancedL1()(y_true, y_pred)
    ```

    Reference: Jiangmiao Pang, Kai Chen, Jianping Shi, Huajun Feng, Wanli Ouyang and Dahua Lin, *Libra R-CNN:
    Towards Balanced Learning for Object Detection*, CVPR 2019, arXiv:1904.02701.
    """

    def __init__(
        self,
        alpha: float = 0.5,
        gamma: float = 1.5,
        beta: float = 1.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "balanced_l1",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.alpha = check_number("alpha", alpha, above=0)
        self.gamma = check_number("gamma", gamma, above=0)
        self.beta = check_number("beta", beta, above=0)
        if self.gamma / self.alpha > 60:
            raise ValueError(
                "`gamma` must be at most 60 times `alpha`. "
                f"Received: gamma={gamma!r}, alpha={alpha!r}"
            )

    def call(self, y_true, y_pred):
        targets, predicted = align_targets(y_true, y_pred)
        d = safe_abs(predicted - targets)
        b = math.expm1(self.gamma / self.alpha)
        near = minimum(d, self.beta)
        small = self.alpha * ((near + 1.0 / b) * ops.log1p(b / self.beta * near) - near)
        large = self.gamma * d + self.gamma / b - self.alpha * self.beta
        return mean_of_outputs(ops.where(d < self.beta, small, large))


@export
class BerHu(BatchCoupledLoss):
    r"""Reverse Huber loss: absolute error of small errors and squared error of large ones, for depth maps.

    With the largest error of the batch,

    $$\ell = \begin{cases} |e| & |e| \le c, \\ \frac{e^2 + c^2}{2 c} & \text{else,} \end{cases} \qquad
      c = t\, \max |e| .$$

    Squared error hardly sees what is small; here small errors keep a gradient of 1 and large ones get a larger
    one. $c$ has no gradient. It is batch-coupled: what is masked or of weight 0 is not in the maximum.

    Args:
        threshold: $t > 0$. From 1 on it is absolute error.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Targets `(batch, …, outputs)` or `(batch,)`, such as depths of the pixels of an image.
        y_pred: Predictions of the same shape. A last axis of size 1 may be missing on either side.

    Returns:
        With `reduction="none"` values `(batch, …)`, the mean over outputs; else a scalar.

    Raises:
        ValueError: If `threshold` is not positive, or the shapes do not fit.

    Cost: a few passes over the errors.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    depth = np.random.uniform(1.0, 10.0, (2, 16, 16, 1))
    kr.losses.BerHu()(depth, depth + np.random.normal(size=depth.shape))
    ```

    Reference: Iro Laina, Christian Rupprecht, Vasileios Belagiannis, Federico Tombari and Nassir Navab, *Deeper
    Depth Prediction with Fully Convolutional Residual Networks*, 2016, arXiv:1606.00373.
    """

    def __init__(
        self,
        threshold: float = 0.2,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "ber_hu",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.threshold = check_number("threshold", threshold, above=0)

    def values(self, y_true, y_pred, counted):
        targets, predicted = align_targets(y_true, y_pred)
        error = predicted - targets
        size = safe_abs(error)
        largest = ops.max(ops.where(present(counted, size) > 0, size, 0.0), initial=0.0)
        c = ops.stop_gradient(self.threshold * largest)
        c = ops.where(c == 0, 1.0, c)  # All errors are 0.
        return mean_of_outputs(ops.where(size > c, 0.5 * (error * (error / c) + c), size)), None


@export
class Wing(Loss):
    r"""Logarithm of small errors and absolute error of large ones: for landmarks that are nearly right.

    For $d = |\hat y - y|$,

    $$\ell = \begin{cases} w \log(1 + d / \epsilon) & d < w, \\ d - C & \text{else,} \end{cases} \qquad
      C = w - w \log(1 + w / \epsilon) .$$

    The gradient grows as errors shrink, from $w / (\epsilon + w)$ at $w$ to $w / \epsilon$ at 0, so that the last
    pixels of inaccuracy count; those of outliers stay at 1. At an error of 0 it is 0.

    Args:
        width: $w > 0$, up to which errors count as small, in units of the targets: the paper's is 10 pixels.
        curvature: $\epsilon > 0$; smaller bends more.
        reduction: How the values become one, as in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, as in `keras.losses.Loss`.

    Call arguments:
        y_true: Targets `(batch, …, outputs)` or `(batch,)`, such as coordinates of landmarks.
        y_pred: Predictions of the same shape. A last axis of size 1 may be missing on either side.

    Returns:
        With `reduction="none"` values `(batch, …)`, the mean over outputs; else a scalar.

    Raises:
        ValueError: If an argument is not positive, or the shapes do not fit.

    Cost: that of absolute error and a logarithm.

    Example:

    ```python
    import numpy as np
    import keras_regularize as kr

    landmarks = np.random.uniform(0, 100, (2, 10))
    kr.losses.Wing()(landmarks, landmarks + np.random.normal(size=landmarks.shape))
    ```

    Reference: Zhen-Hua Feng, Josef Kittler, Muhammad Awais, Patrik Huber and Xiao-Jun Wu, *Wing Loss for Robust
    Facial Landmark Localisation with Convolutional Neural Networks*, CVPR 2018, arXiv:1711.06753.
    """

    def __init__(
        self,
        width: float = 10.0,
        curvature: float = 2.0,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "wing",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.width = check_number("width", width, above=0)
        self.curvature = check_number("curvature", curvature, above=0)

    def call(self, y_true, y_pred):
        targets, predicted = align_targets(y_true, y_pred)
        d = safe_abs(predicted - targets)
        bent = self.width * ops.log1p(minimum(d, self.width) / self.curvature)
        return mean_of_outputs(bent + ops.relu(d - self.width))
