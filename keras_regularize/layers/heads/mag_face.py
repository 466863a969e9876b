"""MagFace: features whose length says how good the image is."""

from typing import Any

from keras import ops

from keras_regularize.layers._losses import add_float_loss
from keras_regularize.layers.heads._cosine_head import (
    CosineHead,
    replace_own,
)
from keras_regularize.numerics import masked_mean, safe_norm
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class MagFace(CosineHead):
    r"""Margin head that makes features long where the sample is easy to recognise, and short where it is not.

    With the length $a = \operatorname{clip}(\|x\|, l, u)$ of the features, $\theta_k$ the angle between them and
    the kernel's column $w_k$, and label $y$,

    $$z_y = \begin{cases} s \cos(\theta_y + m(a)) & \cos\theta_y > 0 \\ s \cos\theta_y & \text{else}, \end{cases}
      \qquad z_k = s \cos \theta_k \quad (k \ne y), \qquad
      m(a) = m_l + (m_u - m_l)\, \frac{a - l}{u - l},$$

    in training, and $s \cos \theta_k$ for all $k$ at inference. In training the layer adds the mean over the batch
    of $\lambda (a / u^2 + 1 / a)$ to the loss, which rewards length. A longer feature pays a larger margin, so
    only samples near their class can afford it. At test time the length is a measure of quality.

    Lengths outside $[l, u]$ get no gradient from margin and loss: see that the features start within, by a
    normalisation layer before the head or by other bounds.

    Args:
        units: Number of classes.
        min_margin: $m_l \ge 0$ in radians, the margin of features of length $l$.
        max_margin: $m_u \ge m_l$ in radians, the margin of features of length $u$.
        min_norm: $l > 0$.
        max_norm: $u > l$.
        factor: $\lambda \ge 0$. The authors use 20 to 35.
        scale: $s > 0$. With few classes or features, lower it.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: `[features, labels]`, where features are `(batch, features)`, neither normalised nor activated, and
    labels class ids `(batch,)` or `(batch, 1)`, or rows `(batch, units)`, of which the largest entry counts.
    Rows with the id -1 get no margin. Without labels, `[features, None]` or the features alone. Output: logits
    `(batch, units)`, computed in at least float32.

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
    head = kr.layers.MagFace(10, min_norm=1.0, max_norm=11.0, factor=0.3, scale=16.0)
    model = kr.models.WithLabels(keras.Model([x, labels], head([features, labels])))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(np.random.normal(size=(40, 8)), np.arange(40) % 10, verbose=0)

    lengths = np.linalg.norm(keras.Model(x, features).predict(np.ones((2, 8)), verbose=0), axis=-1)
    ```

    Reference: Qiang Meng, Shichao Zhao, Zhida Huang and Feng Zhou, *MagFace: A Universal Representation for Face
    Recognition and Quality Assessment*, CVPR 2021, arXiv:2103.06627, with the condition $\cos\theta_y > 0$ of
    their code.
    """

    def __init__(
        self,
        units: int,
        min_margin: float = 0.45,
        max_margin: float = 0.8,
        min_norm: float = 10.0,
        max_norm: float = 110.0,
        factor: float = 35.0,
        scale: float = 64.0,
        **kwargs: Any,
    ):
        super().__init__(units, scale, **kwargs)
        self.min_margin = check_number("min_margin", min_margin, minimum=0)
        self.max_margin = check_number("max_margin", max_margin, minimum=self.min_margin)
        self.min_norm = check_number("min_norm", min_norm, above=0)
        self.max_norm = check_number("max_norm", max_norm, above=self.min_norm)
        self.factor = check_number("factor", factor, minimum=0)

    def with_margin(self, cosine, samples):
        norms = ops.clip(safe_norm(samples.features, axis=-1), self.min_norm, self.max_norm)
        penalty = norms / self.max_norm**2 + 1.0 / norms
        add_float_loss(self, self.factor * masked_mean(penalty, ops.ones_like(penalty)))
        slope = (self.max_margin - self.min_margin) / (self.max_norm - self.min_norm)
        margin = self.min_margin + slope * (norms - self.min_norm)
        margin = ops.where(samples.angle.cosine > 0, margin, 0.0)
        return replace_own(cosine, samples.ids, samples.angle.cosine_of_sum(margin))
