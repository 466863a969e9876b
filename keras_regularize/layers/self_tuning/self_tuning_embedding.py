"""An embedding that responds to hyperparameters."""

from typing import Any

from keras import ops

from keras_regularize.layers.self_tuning.response import Responding
from keras_regularize.registration import export
from keras_regularize.validation import check_integer


@export
class SelfTuningEmbedding(Responding):
    r"""An embedding whose vectors follow the hyperparameters that it is trained with.

    $$y = E_i + (C h) \odot E'_i$$

    for the id $i$ and the hyperparameters $h$ of a sample: `kr.layers.SelfTuningDense` for tokens, without biases.
    With $C = 0$ it is `keras.layers.Embedding`. Vectors start uniform within 0.1, as by the authors.

    Args:
        input_dim: Number of ids, at least 1.
        output_dim: Size of the vectors, at least 1.
        mask_zero: Whether the id 0 is padding, which layers that follow leave out.
        hyper_initializer: Initializer of the hyper kernel, `None` for a normal one of scale 0.01. `"zeros"` for
            the Delta-STN.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: `[ids, hyperparameters]` of shapes `(batch, …)` and `(batch, hyperparameters)`, ids from 0 to
    `input_dim - 1` and unconstrained hyperparameters. Output: `(batch, …, output_dim)`.

    Raises:
        ValueError: If an argument is out of range, or inputs have other shapes.

    Cost: two embeddings, in weights and operations.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    ids, h = keras.Input((5,), dtype="int32"), keras.Input((2,))
    model = keras.Model([ids, h], kr.layers.SelfTuningEmbedding(100, 8)([ids, h]))
    model([np.ones((3, 5), "int32"), np.zeros((3, 2))])  # (3, 5, 8)
    ```

    Reference: Matthew MacKay, Paul Vicol, Jon Lorraine, David Duvenaud and Roger Grosse, *Self-Tuning Networks:
    Bilevel Optimization of Hyperparameters using Structured Best-Response Functions*, ICLR 2019,
    arXiv:1903.03088. The layer is that of their language model, without its dropout of words.
    """

    _ranks = range(1, 100)
    _layout = "ids (batch, …)"
    _has_channels = False

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        mask_zero: bool = False,
        hyper_initializer: Any = None,
        **kwargs: Any,
    ):
        super().__init__(hyper_initializer, **kwargs)
        self.input_dim = check_integer("input_dim", input_dim, minimum=1)
        self.output_dim = check_integer("output_dim", output_dim, minimum=1)
        self.mask_zero = bool(mask_zero)
        self.autocast = False  # Half precision has not all ids.

    def _kernel_shape(self, features):
        return (self.input_dim, self.output_dim)

    def _limit(self, inputs):
        return 0.1

    def _linear(self, features, kernel):
        return ops.take(kernel, features, axis=0)

    def call(self, inputs: Any) -> Any:
        ids, hyper = inputs
        outputs = super().call([ops.cast(ids, "int32"), ops.cast(hyper, self.compute_dtype)])
        return ops.cast(outputs, self.compute_dtype)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return ops.not_equal(inputs[0], 0) if self.mask_zero else None

    def compute_output_shape(self, input_shape: Any) -> Any:
        ids, _ = self._checked(input_shape)
        return (*ids, self.output_dim)
