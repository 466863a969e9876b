"""What a language model says next, one token after the other."""

from collections.abc import Mapping

from keras import ops


def inputs_of(x, tokens):
    """Inputs like `x`, token ids or the dictionary of KerasHub's models, of other tokens."""
    if not isinstance(x, Mapping):
        return tokens
    ones = ops.ones_like(tokens, dtype=x["padding_mask"].dtype) if "padding_mask" in x else None
    return {**x, "token_ids": tokens} | ({} if ones is None else {"padding_mask": ones})


def tokens_of(x):
    """The token ids `(batch, time)` of inputs."""
    if isinstance(x, Mapping):
        if set(x) not in ({"token_ids"}, {"token_ids", "padding_mask"}):
            raise ValueError(
                'Expected inputs of token ids (batch, time), or a dictionary of "token_ids" and '
                f'"padding_mask". Received: keys {sorted(x)}'
            )
        x = x["token_ids"]
    if len(getattr(x, "shape", ())) != 2:
        raise ValueError(
            f"Expected token ids (batch, time). Received: {getattr(x, 'shape', type(x).__name__)}"
        )
    return x


def continued(predict, prefix, length):
    """A prefix `(batch, time)` with `length` more tokens, each the best of `predict(tokens) (…, vocabulary)`.

    The model sees zeros in the place of what is yet to come, which a causal one does not look at.
    """
    start = prefix.shape[1]
    buffer = ops.pad(prefix, ((0, 0), (0, length)))
    places = ops.arange(start + length, dtype="int32")

    def body(i, tokens):
        scores = ops.take(predict(tokens), start - 1 + i, axis=1)
        best = ops.cast(ops.argmax(scores, axis=-1), tokens.dtype)
        return ops.where(places == start + i, best[:, None], tokens)

    return ops.fori_loop(0, length, body, buffer)
