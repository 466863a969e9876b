"""Features of earlier batches as negatives."""

from typing import Any

import keras
from keras import ops

from keras_regularize.autodiff import backend
from keras_regularize.configuration import Configured
from keras_regularize.layers._losses import add_float_loss
from keras_regularize.numerics import matmul, mean, unit_vectors, upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
class NegativeQueue(Configured, keras.layers.Layer):
    r"""MoCo's loss: which of a queue's features and of its own second view is a sample's?

    Of two views' features, queries $q$ and keys $k$, it adds to the loss the mean over the batch of

    $$\ell_i = -\log \frac{\exp(\cos(q_i, k_i) / T)}
      {\exp(\cos(q_i, k_i) / T) + \sum_{n} \exp(\cos(q_i, m_n) / T)},$$

    where $m$ are the last `size` keys of the batches before: the number of negatives does not depend on the batch
    size. In training the keys of the batch then take the place of the oldest ones. Keys have no gradient; they
    should come from slowly moving averages of the weights, or else those of earlier batches do not fit.

    `models.MomentumViews(encoder, …, queue=NegativeQueue())` gives out such views; then `compile` needs no loss.
    Features are handed on as they are. The queue begins with random directions and is saved with the model.

    On several TensorFlow replicas, or in several processes of PyTorch, the keys of all of them enter the queue.

    Args:
        size: Number of keys that are kept, at least 1.
        temperature: $T$, above 0: 0.07 in MoCo, 0.2 in its second version.
        seed: Seed of the first directions.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: features `(batch, 2, dim)`, of queries and of keys. Output: the same.

    Raises:
        ValueError: If an argument is out of range, or the features are not of two views.

    Cost: a product of the queries and the queue of $K$ keys, $O(B K d)$, $B K$ numbers, and in training a copy of
    the queue.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    encoder = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, activation="relu")])
    model = kr.models.MomentumViews(
        encoder, keras.layers.GaussianNoise(0.1), momentum=0.9, queue=kr.layers.NegativeQueue(128, 0.2)
    )
    model.compile("adam")
    model.fit(np.random.normal(size=(64, 8)), verbose=0)
    ```

    Reference: Kaiming He, Haoqi Fan, Yuxin Wu, Saining Xie and Ross Girshick, *Momentum Contrast for Unsupervised
    Visual Representation Learning*, CVPR 2020, arXiv:1911.05722. In the authors' code the batch size must divide
    that of the queue; here it need not.
    """

    def __init__(
        self, size: int = 65536, temperature: float = 0.07, seed: int | None = None, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.size = check_integer("size", size, minimum=1)
        self.temperature = check_number("temperature", temperature, above=0)
        self.seed = check_integer("seed", seed, optional=True)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        if len(input_shape) != 3 or input_shape[1] != 2 or input_shape[2] is None:
            raise ValueError(
                "`NegativeQueue` takes features (batch, 2, dim) of queries and keys. "
                f"Received: shape {tuple(input_shape)}"
            )

        normal = keras.initializers.RandomNormal(seed=self.seed)

        def directions(shape, dtype=None):
            return unit_vectors(normal(shape, dtype))

        self.keys = self.add_weight(
            (self.size, input_shape[2]),
            directions,
            dtype="float32",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",  # Every replica has the same.
            name="keys",
        )

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        z = unit_vectors(upcast(inputs))
        queries, keys = z[:, 0] / self.temperature, ops.stop_gradient(z[:, 1])
        queue = ops.copy(
            self.keys
        )  # PyTorch remembers it for the gradient, while the variable moves on.
        scores = matmul(queries, ops.transpose(ops.cast(queue, z.dtype)))
        own = ops.sum(queries * keys, axis=-1, keepdims=True)
        scores = ops.concatenate([own, scores], axis=-1)
        add_float_loss(self, mean(ops.logsumexp(scores, axis=-1) - own[:, 0]))
        if training:
            (new,) = backend.gather_over_replicas([ops.cast(keys, queue.dtype)])
            self.keys.assign(ops.concatenate([new, queue], axis=0)[: self.size])
        return inputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape
