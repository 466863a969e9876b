"""Soft assignment of features to learnt centres."""

from typing import Any

import keras
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.numerics import squared_distances
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
class StudentTClustering(Configured, keras.layers.Layer):
    r"""Probabilities of clusters by the distance of features to learnt centres, with heavy tails.

    $$q_{ik} = \frac{(1 + \|z_i - \mu_k\|^2 / \alpha)^{-(\alpha + 1) / 2}}
      {\sum_l (1 + \|z_i - \mu_l\|^2 / \alpha)^{-(\alpha + 1) / 2}}.$$

    The head of deep embedded clustering: set the centres to those of k-means on the features,
    `layer.centers.assign(centers)`, and train towards `kr.losses.cluster_target_distribution` of the predictions,
    renewed every few epochs.

    Args:
        num_clusters: Number of clusters, at least 1.
        alpha: Degrees of freedom $\alpha > 0$.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: features `(batch, dim)`. Output: probabilities `(batch, num_clusters)`.

    Raises:
        ValueError: If an argument is out of its range or features are no rows of known size.

    Cost: one matrix product, `batch · num_clusters · dim`.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    encoder = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    model = keras.Sequential([encoder, kr.layers.StudentTClustering(3)])
    model.compile("adam", "kl_divergence")
    ```

    Reference: Junyuan Xie, Ross Girshick and Ali Farhadi, *Unsupervised Deep Embedding for Clustering Analysis*,
    ICML 2016, arXiv:1511.06335.
    """

    def __init__(self, num_clusters: int, alpha: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_clusters = check_integer("num_clusters", num_clusters, minimum=1)
        self.alpha = check_number("alpha", alpha, above=0)

    def build(self, input_shape: Any) -> None:
        if len(input_shape) != 2 or input_shape[-1] is None:
            raise ValueError(
                "`StudentTClustering` takes features `(batch, dim)` of a known size. "
                f"Received: shape={tuple(input_shape)}"
            )
        self.centers = self.add_weight(
            (self.num_clusters, input_shape[-1]), "glorot_uniform", name="centers"
        )

    def call(self, inputs: Any) -> Any:
        distances = squared_distances(inputs, ops.convert_to_tensor(self.centers))
        logits = -0.5 * (self.alpha + 1.0) * ops.log1p(distances / self.alpha)
        return ops.cast(ops.softmax(logits, axis=-1), self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (input_shape[0], self.num_clusters)
