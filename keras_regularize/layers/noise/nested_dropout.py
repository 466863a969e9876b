"""Nested dropout: keeps the first features and drops the rest, so that features become ordered."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
class NestedDropout(Configured, keras.layers.Layer):
    r"""Drops all features behind a random one, so that the first ones carry what matters most.

    In training one number $k$ is drawn per batch and of all samples the first $k$ of the $d$ features are kept:

    $$y_j = x_j\, [\,j \le k\,], \qquad P(k) \propto \exp\!\Big(-\Big(\frac{k - \mu}{\sigma}\Big)^{2}\Big),
    \quad k = 1 \dots d,$$

    without rescaling. Feature $j$ is thus there only together with all before it, and a classifier on top has to
    work on few features most of the time. Such a compressed representation has less room to memorize wrong
    labels. Put it between the features and the linear classifier.

    At inference the first `features` are kept, all $d$ unless set. The authors choose the number on validation
    data, the smaller the better at equal accuracy:

    ```python
    scores = []
    for k in range(1, d + 1):
        layer.features = k
        scores.append(model.evaluate(x_val, y_val, return_dict=True)["accuracy"] - 1e-5 * k)
    layer.features = 1 + int(np.argmax(scores))
    ```

    Args:
        stddev: $\sigma > 0$ in features. The authors use 10 to 100, the smaller the noisier the labels. Far above
            $d$ all $k$ are equally likely.
        mean: $\mu$ in features.
        seed: Integer seed, or None.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Attributes:
        features: Number of features kept at inference, 1 to $d$; set it on the built layer. A compiled `predict`
            follows, and it is saved with the weights.

    Input: `(batch, …, features)`, the last axis known. Output: the same shape.

    Raises:
        ValueError: If an argument is out of range; if the last axis is unknown; if `features` is set to what is
            no integer from 1 to $d$, or before the layer is built.

    Cost: one draw, one comparison and selection.

    Example:

    ```python
    import keras
    import keras_regularize as kr
    import numpy as np

    layer = kr.layers.NestedDropout(stddev=10.0)
    model = keras.Sequential([
        keras.Input((8,)), keras.layers.Dense(32, activation="relu"), layer, keras.layers.Dense(3)
    ])
    model(np.ones((2, 8)), training=True)
    layer.features = 16
    ```

    Reference: Yingyi Chen, Shell Xu Hu, Xi Shen, Chunrong Ai and Johan A. K. Suykens, *Compressing Features for
    Learning with Noisy Labels*, IEEE TNNLS 2022, arXiv:2206.13140, with their code's distribution, whose exponent
    has no ½; after Rippel, Gelbart and Adams, *Learning Ordered Representations with Nested Dropout*, ICML 2014.
    """

    def __init__(
        self, stddev: float = 100.0, mean: float = 0.0, seed: int | None = None, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.stddev = check_number("stddev", stddev, above=0)
        self.mean = check_number("mean", mean)
        self.seed = check_integer("seed", seed, optional=True)
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True
        self._kept: keras.Variable | None = None

    def build(self, input_shape: Any) -> None:
        size = input_shape[-1]
        if size is None:
            raise ValueError(
                "`NestedDropout` needs a known number of features, the last axis. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        # A variable, which compiled functions read anew.
        self._kept = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(size),
            dtype="int32",
            trainable=False,
            aggregation="only_first_replica",
            name="features",
        )
        self._size = size
        self._logits = _log_weights(size, self.mean, self.stddev)[None].astype("float32")

    @property
    def features(self) -> int:
        """Number of features kept at inference."""
        return int(ops.convert_to_numpy(self._built_variable()))

    @features.setter
    def features(self, value: int) -> None:
        variable = self._built_variable()
        check_integer("features", value, minimum=1)
        if value > self._size:
            raise ValueError(
                f"`features` must be at most the layer's {self._size} features. "
                f"Received: features={value}"
            )
        variable.assign(int(value))

    def _built_variable(self):
        if self._kept is None:
            raise ValueError(
                "`features` belongs to a built layer: call the layer or its model first."
            )
        return self._kept

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        kept = ops.convert_to_tensor(self._kept)
        if training:
            logits = ops.convert_to_tensor(self._logits)
            drawn = keras.random.categorical(logits, 1, dtype="int32", seed=self.seed_generator)
            kept = drawn[0, 0] + 1
        mask = ops.arange(self._size, dtype="int32") < kept
        return ops.where(mask, inputs, ops.zeros_like(inputs))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


def nested_dropout_probabilities(
    num_features: int, mean: float = 0.0, stddev: float = 100.0
) -> np.ndarray:
    r"""How likely `NestedDropout` is to keep exactly the first 1, 2, … of some features.

    $P(k) \propto \exp\big(-((k - \mu) / \sigma)^2\big)$ for $k = 1 \dots d$. The chance that feature $j$ is kept
    is the sum from $j$ on.

    Args:
        num_features: Number of features $d \ge 1$.
        mean: $\mu$.
        stddev: $\sigma > 0$.

    Returns:
        A NumPy array `(num_features,)` that sums to 1.

    Raises:
        ValueError: If an argument is out of range.

    Cost: one exponential per feature.

    Example:

    ```python
    import keras_regularize as kr

    kept = kr.layers.nested_dropout_probabilities(64, stddev=10.0)[::-1].cumsum()[::-1]
    ```

    Reference: Yingyi Chen, Shell Xu Hu, Xi Shen, Chunrong Ai and Johan A. K. Suykens, *Compressing Features for
    Learning with Noisy Labels*, IEEE TNNLS 2022, arXiv:2206.13140.
    """
    check_integer("num_features", num_features, minimum=1)
    check_number("mean", mean)
    check_number("stddev", stddev, above=0)
    weights = np.exp(_log_weights(num_features, mean, stddev))
    return weights / weights.sum()


def _log_weights(num_features, mean, stddev):
    """Logarithms of what P(k) is proportional to, 0 at the largest."""
    exponent = -(((np.arange(1, num_features + 1) - mean) / stddev) ** 2)
    return exponent - exponent.max()
