"""ArcFace: an angular margin."""

from collections.abc import Sequence
from typing import Any

from keras_regularize.layers.heads._cosine_head import (
    ClassMargins,
    CosineHead,
    replace_own,
)
from keras_regularize.registration import export
from keras_regularize.validation import check_integer


@export
class ArcFace(CosineHead):
    r"""Classification head that learns features to compare by angle, with a margin between the classes.

    With $\theta_k$ the angle between the features $x$ and the kernel's column $w_k$, the logits of a sample with
    label $y$ are in training

    $$z_y = s \cos(\theta_y + m), \qquad z_k = s \cos \theta_k \quad (k \ne y),$$

    and $s \cos \theta_k$ for all $k$ at inference. Cross-entropy on them asks the features to be nearer to
    their own class than to any other by an angle of $m$. That gathers the classes, so that also samples of
    classes that were not trained on can be told apart: compare the features by their cosine.

    Lengths of features and columns do not matter. $\theta_y + m$ is kept below $\pi$. `margin=0` is the
    normalised softmax. With few classes or few features lower the scale, with small networks the margin. Classes
    with few samples are helped by a larger margin of their own.

    With $K$ sub-centres a class has $K$ columns, and $\cos\theta_k$ is the largest of their cosines. Wrongly
    labelled and unusual samples gather at a centre of their own instead of pulling at the main one. Afterwards
    samples farther than some 75° from the centre that most of their class are nearest to can be dropped, and
    the model be trained anew without sub-centres.

    The angle comes from the lengths of the sum and the difference of the unit vectors, so logits are exact and
    gradients finite up to $\theta_y = 0$; there, where the gradient $s \sin m$ has no direction, it is 0.

    Args:
        units: Number of classes.
        margin: $m \ge 0$ in radians, one number or a list of one for each class.
        scale: $s > 0$.
        sub_centers: $K \ge 1$, columns of the kernel for each class; the paper takes 3.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: `[features, labels]`, where features are `(batch, features)`, neither normalised nor activated, and
    labels class ids `(batch,)` or `(batch, 1)`, or rows `(batch, units)`, of which the largest entry counts.
    Rows with the id -1 get no margin. Without labels, `[features, None]` or the features alone. Output: logits
    `(batch, units)`, computed in at least float32 (in half precision they are rounded at the end, by 0.25 at a
    scale of 64 in bfloat16: give the head `dtype="float32"`). The kernel is `(features, units * sub_centers)`,
    the columns of a class side by side.

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
    logits = kr.layers.ArcFace(10, margin=0.3, scale=16.0)([features, labels])
    model = kr.models.WithLabels(keras.Model([x, labels], logits))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(np.random.normal(size=(40, 8)), np.arange(40) % 10, verbose=0)

    embed = keras.Model(x, features)
    ```

    Reference: Jiankang Deng, Jia Guo, Niannan Xue and Stefanos Zafeiriou, *ArcFace: Additive Angular Margin Loss
    for Deep Face Recognition*, CVPR 2019, arXiv:1801.07698; Deng, Guo, Liu, Gong and Zafeiriou, *Sub-center
    ArcFace: Boosting Face Recognition by Large-scale Noisy Web Faces*, ECCV 2020. Common code clips the
    cosine at $1 - 10^{-4}$ or $1 - 10^{-7}$, where samples get no gradient; here nothing is clipped.
    """

    def __init__(
        self,
        units: int,
        margin: float | Sequence[float] = 0.5,
        scale: float = 64.0,
        sub_centers: int = 1,
        **kwargs: Any,
    ):
        super().__init__(units, scale, **kwargs)
        self.sub_centers = check_integer("sub_centers", sub_centers, minimum=1)
        self.margins = ClassMargins(margin, self.units)
        self.margin = self.margins.config

    def with_margin(self, cosine, samples):
        margin = self.margins.of(samples.ids, cosine.dtype)
        return replace_own(cosine, samples.ids, samples.angle.cosine_of_sum(margin))
