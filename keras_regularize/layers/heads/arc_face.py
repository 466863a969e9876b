"""ArcFace: an angular margin."""

from typing import Any

from keras_regularize._export import export
from keras_regularize._validation import check_number
from keras_regularize.layers.heads._cosine_head import (
    CosineHead,
    own_cosine,
    replace_own,
    rotated,
)


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
    normalised softmax. With few classes or few features lower the scale, with small networks the margin.

    Args:
        units: Number of classes.
        margin: $m \ge 0$ in radians.
        scale: $s > 0$.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: `[features, labels]`, where features are `(batch, features)`, neither normalised nor activated, and
    labels class ids `(batch,)` or `(batch, 1)`, or rows `(batch, units)`, of which the largest entry counts.
    Rows with the id -1 get no margin. Without labels, `[features, None]` or the features alone. Output: logits
    `(batch, units)`, computed in at least float32.

    Raises:
        ValueError: If an argument is out of its range, or in training without labels.

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
    for Deep Face Recognition*, CVPR 2019, arXiv:1801.07698.
    """

    def __init__(self, units: int, margin: float = 0.5, scale: float = 64.0, **kwargs: Any):
        check_number("margin", margin, minimum=0)
        super().__init__(units, scale, **kwargs)
        self.margin = float(margin)

    def with_margin(self, features, cosine, label):
        return replace_own(cosine, label, rotated(own_cosine(cosine, label), self.margin))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "margin": self.margin}
