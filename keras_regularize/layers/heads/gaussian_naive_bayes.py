"""Gaussian naive Bayes as an output layer that is fitted by counting."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_regularize.configuration import Configured
from keras_regularize.layers.heads.class_statistics import (
    class_statistics,
    merged,
    naive_bayes_classifier,
)
from keras_regularize.numerics import matmul, maximum, upcast
from keras_regularize.registration import export
from keras_regularize.validation import check_integer, check_number


@export
class GaussianNaiveBayes(Configured, keras.layers.Layer):
    r"""Linear classifier from class means and variances: no training, and few samples are enough.

    Each feature is taken to be normal within a class, independent of the others, with a variance $v_j$ that is
    the same in all classes. With the means $\mu_k$ and shares $\pi_k$ of the classes, the logits are

    $$z_k = \log \pi_k - \frac12 \sum_j \frac{(x_j - \mu_{kj})^2}{v_j}, \qquad
      v_j = \sum_k \pi_k \operatorname{Var}(x_j \mid k) + \epsilon,$$

    up to a term that is the same for all classes: a linear classifier. On $d$ features it comes near to its best
    with a number of samples that grows with $\log d$, where logistic regression needs a number that grows with
    $d$. Logistic regression wins with more data if the features are far from the assumption, as pixels are. Use
    it on the features of a pretrained network.

    `adapt` fits the layer, `update` adds further samples: the result is that of all samples at once. Before any
    sample the classes are equally likely. A class without samples counts as one with the share $10^{-12}$ and the
    mean 0. Nothing in it is trained by `fit`.

    The confidence is that of independent features, mostly too high. A feature that hardly varies in the data and
    then does dominates all others: scale features to [0, 1], as the authors do, and raise $\epsilon$.

    Args:
        num_classes: Number of classes, at least 2.
        epsilon: $\epsilon \ge 0$, added to the variances; positive if a feature may be constant.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: features `(batch, features)`. Output: logits `(batch, num_classes)`, computed in at least float32.

    Raises:
        ValueError: If an argument is out of its range, or the data of `adapt` or `update` do not fit.

    Cost: that of a dense layer.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    x, y = np.random.normal(size=(60, 8)), np.arange(60) % 3
    backbone = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16, activation="relu")])
    head = kr.layers.GaussianNaiveBayes(3)
    head.adapt(backbone.predict(x, verbose=0), y)
    model = keras.Sequential([backbone, head])
    model.predict(x, verbose=0)
    ```

    Reference: Chenyu Zheng, Guoqiang Wu, Fan Bao, Yue Cao, Chongxuan Li and Jun Zhu, *Revisiting Discriminative
    vs. Generative Classifiers: Theory and Implications*, ICML 2023, arXiv:2302.02334.
    """

    def __init__(self, num_classes: int, epsilon: float = 1e-9, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_classes = check_integer("num_classes", num_classes, minimum=2)
        self.epsilon = check_number("epsilon", epsilon, minimum=0)
        self.autocast = False
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        shapes = {
            "counts": (self.num_classes,),
            "means": (self.num_classes, input_shape[-1]),
            "squares": (input_shape[-1],),
        }
        self._statistics = [
            self.add_weight(shape, "zeros", trainable=False, autocast=False, name=name)
            for name, shape in shapes.items()
        ]

    def adapt(self, features: Any, labels: Any) -> None:
        """Fits the layer to samples; what it knew before is forgotten.

        Args:
            features: Array `(n, features)`.
            labels: Class ids `(n,)` or `(n, 1)`, or rows `(n, num_classes)`, whose largest entry is the label.
        """
        self._assign(self._of(features, labels))

    def update(self, features: Any, labels: Any) -> None:
        """Adds samples to those the layer was fitted to; arguments as in `adapt`."""
        new = self._of(features, labels)
        old = [np.asarray(ops.convert_to_numpy(v), "float64") for v in self._statistics]
        self._assign(merged(old, new))

    def _of(self, features, labels):
        statistics = class_statistics(features, labels, self.num_classes)
        size = statistics[-1].shape[0]
        if not self.built:
            self.build((None, size))
        if size != self._statistics[-1].shape[0]:
            raise ValueError(
                f"`features` must have {self._statistics[-1].shape[0]} columns, as the layer was built. "
                f"Received: {size}"
            )
        return statistics

    def _assign(self, statistics):
        for variable, value in zip(self._statistics, statistics):
            variable.assign(value)

    def call(self, inputs: Any) -> Any:
        features = upcast(ops.cast(inputs, self.variable_dtype))
        counts, means, squares = map(upcast, self._statistics)
        # About the mean of the samples: far from the origin the terms of the logits are large and cancel.
        center = ops.sum(counts[:, None] * means, axis=0) / maximum(ops.sum(counts), 1.0)
        kernel, bias = naive_bayes_classifier(counts, means - center, squares, self.epsilon, ops)
        return ops.cast(matmul(features - center, kernel) + bias, self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], self.num_classes)
