"""CurricularFace: hard negatives count more as training goes on."""

import math
from typing import Any

from keras import ops

from keras_regularize.layers.heads._cosine_head import (
    CosineHead,
    at_label,
    replace_own,
)
from keras_regularize.numerics import masked_mean
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class CurricularFace(CosineHead):
    r"""Margin head that turns to the hard classes of a sample only once the easy ones are learnt.

    With $\theta_k$ the angle between the features $x$ and the kernel's column $w_k$, the logits of a sample with
    label $y$ are in training

    $$z_y = s\,c, \qquad c = \begin{cases} \cos(\theta_y + m) & \theta_y < \pi - m \\
      \cos\theta_y - m \sin m & \text{else}, \end{cases} \qquad
      z_k = s \cos\theta_k \begin{cases} 1 & \cos\theta_k \le c \\ \tau + \cos\theta_k & \text{else} \end{cases}
      \quad (k \ne y),$$

    and $s \cos \theta_k$ for all $k$ at inference. The classes $k$ that the sample is nearer to than to its own,
    the margin included, are the hard ones. $\tau$ is a running mean of $\cos\theta_y$, so that they count
    little at the start, when $\tau$ is 0, and more as the features improve.

    Args:
        units: Number of classes.
        margin: $m$ in radians, from 0 to $\pi / 2$.
        scale: $s > 0$. With few classes or features, lower it.
        momentum: Share of the new value, the opposite of Keras' `momentum`, as in the authors' code:
            of a batch's mean in $\tau$, from 0 to 1; it moves before it is used.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: `[features, labels]`, where features are `(batch, features)`, neither normalised nor activated, and
    labels class ids `(batch,)` or `(batch, 1)`, or rows `(batch, units)`, of which the largest entry counts.
    Rows with the id -1 get plain cosines. Without labels, `[features, None]` or the features alone. Output:
    logits `(batch, units)`, computed in at least float32. Weights: the kernel, then $\tau$, which is not trained.

    Raises:
        ValueError: If an argument is out of its range, in training without labels, or with ids that are no class
            where they can be read (not in a compiled step).

    Cost: a dense layer's, and a few elementwise passes over the logits.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x = keras.Input((8,))
    labels = keras.Input((), dtype="int32", optional=True)
    features = keras.layers.Dense(16)(keras.layers.Dense(32, activation="relu")(x))
    logits = kr.layers.CurricularFace(10, margin=0.2, scale=16.0)([features, labels])
    model = kr.models.WithLabels(keras.Model([x, labels], logits))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(np.random.normal(size=(40, 8)), np.arange(40) % 10, verbose=0)
    ```

    Reference: Yuge Huang, Yuhan Wang, Ying Tai, Xiaoming Liu, Pengcheng Shen, Shaoxin Li, Jilin Li and Feiyue
    Huang, *CurricularFace: Adaptive Curriculum Learning Loss for Deep Face Recognition*, CVPR 2020,
    arXiv:2004.00288. Their code compares with $\cos(\theta_y + m)$ also where $\theta_y > \pi - m$; here what
    makes a class hard is the logit that the label gets.
    """

    def __init__(
        self,
        units: int,
        margin: float = 0.5,
        scale: float = 64.0,
        momentum: float = 0.01,
        **kwargs: Any,
    ):
        super().__init__(units, scale, **kwargs)
        self.margin = check_number("margin", margin, minimum=0, maximum=math.pi / 2)
        self.momentum = check_number("momentum", momentum, minimum=0, maximum=1)

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.tau = self.add_weight(
            (), "zeros", trainable=False, autocast=False, aggregation="mean", name="tau"
        )

    def with_margin(self, cosine, samples):
        known = ops.any(at_label(samples.ids, self.units), axis=-1)
        own = samples.angle.cosine
        tau = self._updated_tau(ops.stop_gradient(own), known)
        target = ops.where(
            own > -math.cos(self.margin),
            samples.angle.cosine_of_sum(self.margin),
            own - self.margin * math.sin(self.margin),
        )
        hard = ops.logical_and(ops.expand_dims(known, -1), cosine > ops.expand_dims(target, -1))
        others = ops.where(hard, cosine * (tau + cosine), cosine)
        return replace_own(others, samples.ids, target)

    def _updated_tau(self, own, known):
        old = ops.cast(self.tau.value, own.dtype)
        moved = self.momentum * masked_mean(own, known) + (1.0 - self.momentum) * old
        # An overflow under loss scaling would stay for ever.
        new = ops.where(ops.any(known) & ops.isfinite(moved), moved, old)
        self.tau.assign(new)
        return new
