"""Runs of tokens that come a second time in their sequence."""

from typing import Any

from keras import ops

from keras_regularize.numerics import upcast
from keras_regularize.validation import check_integer


def ngram_repeat_mask(tokens: Any, ngram: int = 4, counted: Any = None) -> Any:
    r"""Where a sequence says again what it has said before.

    A position is marked if it belongs to an n-gram $(x_s, \dots, x_{s+n-1})$ that came earlier in the same
    sequence, with or without overlap: all $n$ positions of the repeat, and none of the first occurrence.

    Args:
        tokens: Token ids `(batch, time)`.
        ngram: $n \ge 1$.
        counted: Bools `(batch, time)`, unset where there is no token but padding: an n-gram with such a position
            is none. `None` if all count.

    Returns:
        Bools `(batch, time)`; all unset where a sequence is shorter than $n$.

    Raises:
        ValueError: If `tokens` are not `(batch, time)`, or `ngram` is no integer of at least 1.

    Cost: `ngram` comparisons of all pairs of positions, `(batch, time, time)` bools.

    Example:

    ```python
    import keras_regularize as kr

    kr.generative.ngram_repeat_mask([[7, 1, 2, 7, 1, 3]], ngram=2)  # marks the second 7, 1
    ```

    Reference: Sean Welleck, Ilia Kulikov, Stephen Roller, Emily Dinan, Kyunghyun Cho and Jason Weston, *Neural
    Text Generation with Unlikelihood Training*, ICLR 2020, arXiv:1908.04319. Differs from the authors' code in
    looking at the last n-gram too.
    """
    tokens = as_tokens(tokens)
    found, _ = repeated_ngrams(tokens, ngram, counted)
    marked = ops.zeros_like(tokens, dtype="bool")
    time = ops.shape(tokens)[1]
    for k in range(ngram):
        here = ops.pad(found, ((0, 0), (k, ngram - 1 - k)))
        marked = ops.logical_or(marked, here[:, :time])
    return marked


def repetition(tokens: Any, ngram: int = 4, counted: Any = None) -> Any:
    """The share of the n-grams of each sequence that came before in it, `(batch,)` floats; 0 without any."""
    found, there = repeated_ngrams(as_tokens(tokens), ngram, counted)
    repeats, total = (ops.sum(ops.cast(x, "float32"), axis=-1) for x in (found, there))
    return repeats / ops.where(total > 0, total, 1.0)


def repeated_ngrams(tokens: Any, ngram: int, counted: Any = None) -> tuple[Any, Any]:
    """Bools `(batch, time - ngram + 1)`: whether the n-gram from there on came before, and whether it is one."""
    check_integer("ngram", ngram, minimum=1)
    same = ops.logical_and(tokens[:, :, None] == tokens[:, None, :], earlier(tokens))
    counted = ops.ones_like(tokens, dtype="bool") if counted is None else counted
    parts = [slice(k, k - ngram + 1 or None) for k in range(ngram)]
    there, found = counted[:, parts[0]], same[:, parts[0], parts[0]]
    for part in parts[1:]:
        there = ops.logical_and(there, counted[:, part])
        found = ops.logical_and(found, same[:, part, part])
    found = ops.logical_and(found, there[:, None, :])
    return ops.logical_and(ops.any(found, axis=-1), there), there


def earlier(tokens: Any) -> Any:
    """Bools `(time, time)`: whether the second position is before the first."""
    positions = ops.arange(ops.shape(tokens)[1], dtype="int32")
    return positions[None, :] < positions[:, None]


def as_tokens(tokens: Any) -> Any:
    """Token ids as a tensor `(batch, time)`."""
    tokens = ops.convert_to_tensor(tokens)
    if len(tokens.shape) != 2:
        raise ValueError(
            f"Expected token ids (batch, time). Received: tokens.shape={tuple(tokens.shape)}"
        )
    return tokens


def log_complement(log_p: Any, ids: Any) -> Any:
    r"""`log(1 - p)` of the probability at ids `(…)`, from log-probabilities `(…, vocabulary)`.

    Summed over the others: exact, and with a gradient, also where $p$ rounds to 1. At least -1e30.
    """
    log_p = upcast(log_p)
    at = ops.equal(ids[..., None], ops.arange(log_p.shape[-1], dtype=ids.dtype))
    return ops.logsumexp(ops.where(at, -1e30, log_p), axis=-1)
