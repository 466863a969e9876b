"""A layer that decides, word by word, which module of a network is to speak."""

from typing import Any

from keras import layers, ops

from keras_regularize.autodiff import backend
from keras_regularize.configuration import Configured
from keras_regularize.registration import export
from keras_regularize.validation import check_integer


@export
class ModuleController(Configured, layers.Layer):
    r"""Chooses softly between modules at each step of a sequence, in view of what it chose before.

    With learned embeddings $e_1, \dots, e_K$ of the modules, the weights at step $t$ are

    $$w_t = \operatorname{softmax}\big(A\, f(q_t, H_t)\big), \qquad q_t = W x_t + b, \qquad
      H_t = \Big(0, \sum_k w_{1k} e_k, \dots, \sum_k w_{t-1,k} e_k\Big),$$

    where $f$ is an attention of several heads of the query over that history and two dense layers, both with the
    residual and the layer normalization of a Transformer. In image captioning the modules are those for function
    words, nouns, verbs and adjectives: their outputs times $w$ go to the decoder, and
    `kr.losses.PartOfSpeechLoss` shows the controller which of them a word belongs to.

    The layer gives logits: weigh modules by their softmax. A decoder whose inputs depend on the last choice calls
    `step` at each step.

    Args:
        units: Size of queries and embeddings, divisible by `num_heads`.
        num_modules: $K$, at least 2.
        num_heads: Number of heads, at least 1.
        **kwargs: `name`, `dtype` and other arguments of `keras.layers.Layer`.

    Input: `(batch, time, features)`, such as the state of the decoder, the image and the word, side by side. On
    TensorFlow `time` must be known, or the model compiled with `jit_compile=False`.

    Output: logits `(batch, time, num_modules)`.

    Raises:
        ValueError: If an argument is out of range, or inputs are not `(batch, time, features)`.

    Cost: an attention over the steps before, step by step.

    Example:

    ```python
    import keras
    import numpy as np
    import keras_regularize as kr

    words = keras.Input((6,), dtype="int32")
    states = keras.layers.GRU(16, return_sequences=True)(keras.layers.Embedding(20, 8)(words))
    choice = kr.layers.ModuleController(16, num_modules=4, num_heads=2, name="modules")(states)
    model = keras.Model(words, choice)
    model.compile("adam", kr.losses.PartOfSpeechLoss())
    text = np.random.default_rng(0).integers(0, 20, (8, 6))
    model.fit(text, text % 4, verbose=0)
    ```

    Reference: Xu Yang, Hanwang Zhang, Chongyang Gao and Jianfei Cai, *Learning to Collocate Visual-Linguistic
    Neural Modules for Image Captioning*, IJCV 2022, arXiv:2210.01338. The width of the dense layer, four times
    `units`, is that of Transformers.
    """

    def __init__(self, units: int, num_modules: int = 4, num_heads: int = 8, **kwargs: Any):
        super().__init__(**kwargs)
        self.units = check_integer("units", units, minimum=1)
        self.num_modules = check_integer("num_modules", num_modules, minimum=2)
        self.num_heads = check_integer("num_heads", num_heads, minimum=1)
        if self.units % self.num_heads:
            raise ValueError(
                f"`units` must be divisible by `num_heads`. Received: units={units}, num_heads={num_heads}"
            )
        self.supports_masking = True
        options = {"dtype": self.dtype_policy}
        self._query = layers.Dense(units, **options)
        self._attention = layers.MultiHeadAttention(num_heads, units // num_heads, **options)
        self._norms = [layers.LayerNormalization(**options) for _ in range(2)]
        self._wide = layers.Dense(4 * units, activation="relu", **options)
        self._narrow = layers.Dense(units, **options)
        self._choice = layers.Dense(num_modules, **options)

    def build(self, input_shape: Any) -> None:
        if len(input_shape) != 3 or input_shape[-1] is None:
            raise ValueError(
                "Expected inputs (batch, time, features) with a known number of features. "
                f"Received: shape {tuple(input_shape)}"
            )
        self.embeddings = self.add_weight(
            shape=(self.num_modules, self.units), initializer="glorot_uniform", name="embeddings"
        )
        one = (input_shape[0], 1, self.units)
        self._query.build((input_shape[0], input_shape[-1]))
        self._attention.build(one, (input_shape[0], None, self.units))
        for layer in (*self._norms, self._wide, self._choice):
            layer.build((input_shape[0], self.units))
        self._narrow.build((input_shape[0], 4 * self.units))

    def step(self, inputs: Any, history: Any, there: Any = None) -> tuple[Any, Any]:
        """One step: `(logits, combination)`, the second of which comes next in the history.

        Args:
            inputs: `(batch, features)`.
            history: `(batch, steps, units)`, the combinations so far, of which the first is 0.
            there: Bools `(steps,)`, unset for those of the history that are yet to come; `None` if all are there.
        """
        query = self._query(inputs)
        mask = None if there is None else there[None, None, :]
        # Asked for its scores, the layer computes them itself: JAX cannot compile its own in float16 on CPUs.
        heard, _ = self._attention(
            query[:, None], history, attention_mask=mask, return_attention_scores=True
        )
        heard = heard[:, 0]
        hidden = self._norms[0](query + heard)
        hidden = self._norms[1](hidden + self._narrow(self._wide(hidden)))
        logits = self._choice(hidden)
        weights = ops.softmax(logits, axis=-1)
        return logits, ops.matmul(weights, ops.cast(self.embeddings, weights.dtype))

    def call(self, inputs: Any) -> Any:
        batch, time = ops.shape(inputs)[:2]
        positions = ops.arange(time + 1, dtype="int32")
        start = (
            ops.zeros((batch, self.num_modules), self.compute_dtype),
            ops.zeros((batch, time + 1, self.units), self.compute_dtype),
            ops.zeros((), "int32"),
        )

        def step(carry, given):
            _, history, position = carry
            logits, combination = self.step(given[0], history, positions <= position)
            here = (positions == position + 1)[None, :, None]
            history = ops.where(here, combination[:, None], history)
            return (logits, history, position + 1), logits

        steps = (ops.moveaxis(inputs, 1, 0),)
        return ops.moveaxis(backend.scan_with_gradient(step, start, steps), 0, 1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], self.num_modules)
