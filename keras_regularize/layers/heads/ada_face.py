"""AdaFace: a margin that depends on the quality of the image."""

from typing import Any

import keras
from keras import ops

from keras_regularize.layers.heads._cosine_head import (
    CosineHead,
    replace_own,
)
from keras_regularize.numerics import maximum, safe_norm
from keras_regularize.registration import export
from keras_regularize.validation import check_number


@export
class AdaFace(CosineHead):
    r"""Margin head that presses hard samples where the image is good, and spares them where it is poor.

    The length of the features stands for the quality of the image. With running mean $\mu$ and deviation
    $\sigma$ of the lengths, $\theta_k$ the angle between features $x$ and the kernel's column $w_k$, and
    label $y$,

    $$q = \operatorname{clip}\Big(h\, \frac{\|x\| - \mu}{\sigma + 10^{-3}},\, -1,\, 1\Big), \qquad
      z_y = s\,\big(\cos(\theta_y - m q) - m (1 + q)\big), \qquad z_k = s \cos \theta_k \quad (k \ne y),$$

    in training, and $s \cos\theta_k$ for all $k$ at inference. At $q = -1$ that is the margin of `ArcFace`, at 0
    that of `CosFace`, and at 1 one that weighs hard samples more than easy ones. Samples that cannot be
    recognised thus do not distort the features of the others. `concentration=0` is `CosFace`.

    $\mu$ and $\sigma$ (start 20 and 100) move towards those of a batch, by the share `momentum`, before they are
    used; no gradient flows through $q$. The classes are told apart by angle, so only relative lengths matter;
    they count between 0.001 and 100. $\theta_y - mq$ is kept between 0 and $\pi$.

    Args:
        units: Number of classes.
        margin: $m \ge 0$.
        concentration: $h \ge 0$: at 1/3, about two thirds of the samples lie at $|q| < 1/3$.
        scale: $s > 0$. With few classes or features, lower it.
        momentum: Share of the new value, the opposite of Keras' `momentum`, as in the authors' code:
            of a batch's statistics in the running ones, from 0 to 1.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: `[features, labels]`, where features are `(batch, features)`, neither normalised nor activated, and
    labels class ids `(batch,)` or `(batch, 1)`, or rows `(batch, units)`, of which the largest entry counts.
    Rows with the id -1 get no margin. Without labels, `[features, None]` or the features alone. Output: logits
    `(batch, units)`, computed in at least float32. Weights: the kernel, then the running mean and deviation,
    which are not trained.

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
    logits = kr.layers.AdaFace(10, margin=0.2, scale=16.0)([features, labels])
    model = kr.models.WithLabels(keras.Model([x, labels], logits))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(np.random.normal(size=(40, 8)), np.arange(40) % 10, verbose=0)
    ```

    Reference: Minchul Kim, Anil K. Jain and Xiaoming Liu, *AdaFace: Quality Adaptive Margin for Face Recognition*,
    CVPR 2022, arXiv:2204.00964. Their code clips cosines at 0.999 and keeps angles 0.001 from 0 and
    $\pi$; here no cosine is clipped, see `ArcFace`. The deviation of a batch of one, undefined in their code,
    leaves the running one as it is.
    """

    def __init__(
        self,
        units: int,
        margin: float = 0.4,
        concentration: float = 0.333,
        scale: float = 64.0,
        momentum: float = 0.01,
        **kwargs: Any,
    ):
        super().__init__(units, scale, **kwargs)
        self.margin = check_number("margin", margin, minimum=0)
        self.concentration = check_number("concentration", concentration, minimum=0)
        self.momentum = check_number("momentum", momentum, minimum=0, maximum=1)

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.norm_mean = self._statistic("norm_mean", 20.0)
        self.norm_deviation = self._statistic("norm_deviation", 100.0)

    def _statistic(self, name, value):
        return self.add_weight(
            (1,),
            keras.initializers.Constant(value),
            trainable=False,
            autocast=False,
            aggregation="mean",
            name=name,
        )

    def with_margin(self, cosine, samples):
        lengths = ops.stop_gradient(safe_norm(samples.features, axis=-1))
        norms = ops.clip(lengths, 1e-3, 100.0)
        # An overflow under loss scaling would stay for ever.
        mean, deviation = self._updated_statistics(norms, ops.all(ops.isfinite(lengths)))
        quality = self.concentration * (norms - mean) / (deviation + 1e-3)
        quality = self.margin * ops.clip(quality, -1.0, 1.0)
        own = samples.angle.cosine_of_sum(-quality) - (self.margin + quality)
        return replace_own(cosine, samples.ids, own)

    def _updated_statistics(self, norms, finite):
        count = ops.sum(ops.ones_like(norms))
        batch_mean = ops.sum(norms) / maximum(count, 1.0)
        squares = ops.sum(ops.square(norms - batch_mean)) / maximum(count - 1.0, 1.0)
        return (
            self._moved(self.norm_mean, batch_mean, finite & (count > 0)),
            self._moved(self.norm_deviation, ops.sqrt(squares), finite & (count > 1)),
        )

    def _moved(self, variable, value, defined):
        old = ops.cast(variable.value, value.dtype)
        new = ops.where(defined, self.momentum * value + (1.0 - self.momentum) * old, old)
        variable.assign(new)
        return new
