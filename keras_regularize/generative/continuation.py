"""Text by a language model."""

from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_regularize.autodiff import Forward, backend
from keras_regularize.autodiff.functional import read_values
from keras_regularize.models.continuation import continued, inputs_of, tokens_of
from keras_regularize.validation import check_integer


def greedy_continuation(model: keras.Model, tokens: Any, length: int) -> Any:
    """Lets a causal language model continue texts, by its best token each time.

    Args:
        model: Model from token ids `(batch, time)`, for any number of them, to scores `(batch, time, vocabulary)`.
        tokens: Ids of the prefixes `(batch, time)`, none of them padding, of one length of at least 1; or the
            dictionary of KerasHub's backbones.
        length: Number of tokens to add, at least 1.

    Returns:
        Ids of the continuations without the prefixes, an array `(batch, length)`.

    Raises:
        ValueError: If `tokens` are not `(batch, time)`, or `length` is no integer of at least 1.

    Cost: `length` forward passes on prefix and continuation, compiled on JAX and TensorFlow.

    Example:

    ```python
    import keras
    import keras_regularize as kr

    layers = [keras.layers.Embedding(6, 8), keras.layers.GRU(8, return_sequences=True), keras.layers.Dense(6)]
    model = keras.Sequential([keras.Input((None,), dtype="int32"), *layers])
    kr.generative.greedy_continuation(model, [[1, 2, 3]], length=4)  # (1, 4)
    ```

    Reference: Sean Welleck, Ilia Kulikov, Stephen Roller, Emily Dinan, Kyunghyun Cho and Jason Weston, *Neural
    Text Generation with Unlikelihood Training*, ICLR 2020, arXiv:1908.04319, who measure repeats on such
    continuations.
    """
    check_integer("length", length, minimum=1)
    given: Any = (
        {name: ops.convert_to_tensor(x) for name, x in tokens.items()}
        if isinstance(tokens, Mapping)
        else ops.convert_to_tensor(tokens)
    )
    prefix = tokens_of(given)
    if prefix.shape[1] == 0:
        raise ValueError(
            f"Expected prefixes of at least one token. Received: tokens.shape={tuple(prefix.shape)}"
        )

    def run(weights, prefix):
        forward = Forward(model, weights)
        return continued(lambda t: forward(inputs_of(given, t)), prefix, length)

    text = backend.compiled(run)(read_values(model.trainable_variables), prefix)
    return ops.convert_to_numpy(text)[:, prefix.shape[1] :]
