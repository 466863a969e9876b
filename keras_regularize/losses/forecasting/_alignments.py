"""Sums over all alignments of two series, in as many steps as there are anti-diagonals.

An array over pairs of time steps, `(batch, n, m)`, is skewed to `(n + m - 1, batch, n)`: entry `[i + j, :, i]` is
that of the pair `(i, j)`. A step needs the two diagonals before it, which hold the predecessors `(i - 1, j)`,
`(i, j - 1)` and `(i - 1, j - 1)`. The gradient of each recursion is another one, so no loop is differentiated.
"""

from keras import ops

from keras_regularize.autodiff import backend

#: Minus the logarithm of what cannot be reached: beyond any cost, and multiples of it are finite.
FAR = 1e30


def skewed(x, fill):
    """`(batch, n, m)` as `(n + m - 1, batch, n)`, with `fill` where a diagonal leaves the matrix."""
    n, m = x.shape[1:]
    x = ops.pad(x, [(0, 0), (0, 0), (0, n)], constant_values=fill)
    x = ops.reshape(x, (-1, n * (m + n)))[:, : n * (m + n - 1)]
    return ops.transpose(ops.reshape(x, (-1, n, m + n - 1)), (2, 0, 1))


def _predecessors(x):
    """Of each entry those above, to the left and diagonally before it, `(n + m - 1, 3, batch, n)`.

    `x` has two diagonals and a row more, for what is before the first entries.
    """
    return ops.stack([x[1:-1, :, :-1], x[1:-1, :, 1:], x[:-2, :, :-1]], axis=1)


def shares(log_sums):
    """The share that each predecessor has in an entry of `log_sums`: they add up to 1."""
    return ops.softmax(_predecessors(log_sums), axis=1)


def _recur(step, edge, corner, inputs):
    """All diagonals `(n + m + 1, batch, n + 1)`, with `corner` before the first entry and `edge` elsewhere."""
    start = ops.full_like(inputs[0][0], edge)
    column = start[:, :1]
    corner = ops.full_like(column, corner)
    start = ops.stack([backend.join_last(first, start) for first in (corner, column)])
    return backend.recur(step, start, inputs)


def _log_sums(costs):
    def step(above, left, diagonal, cost):
        return backend.log_add_exp(backend.log_add_exp(above, left), diagonal) - cost

    return _recur(step, -FAR, 0.0, (costs,))


def _log_sums_gradient(inputs, output, cotangent):
    return (-backward_sums(shares(output), cotangent[2:, :, 1:]),)


#: The log of the sum, over all alignments up to a pair, of the exponential of minus their costs.
log_sums = backend.with_gradient(_log_sums, _log_sums_gradient)


def _forward_sums(weights, sources):
    def step(above, left, diagonal, source, first, second, third):
        source = backend.add_product(source, first, above)
        return backend.add_product(backend.add_product(source, second, left), third, diagonal)

    return _recur(step, 0.0, 0.0, (sources, *_parts(weights)))


def _forward_gradient(inputs, output, cotangent):
    weights, _ = inputs
    passed = backward_sums(weights, cotangent[2:, :, 1:])
    return passed[:, None] * _predecessors(output), passed


#: Each entry is its source and the weighted sum of its predecessors.
forward_sums = backend.with_gradient(_forward_sums, _forward_gradient)


def _backward_sums(weights, sources):
    nothing, column = ops.zeros_like(sources[0]), ops.zeros_like(sources[0, :, :1])

    def body(carry, given):
        (here, diagonal), (source, first, second, third) = carry, given
        here = here + source
        above = backend.join_last(backend.add_product(diagonal, here, first)[:, 1:], column)
        return (backend.add_product(above, here, second), here * third), here

    inputs = (sources, *_parts(weights))
    return backend.scan(body, (nothing, nothing), inputs, reverse=True)


def _backward_gradient(inputs, output, cotangent):
    weights, _ = inputs
    passed = forward_sums(weights, cotangent)
    return output[:, None] * _predecessors(passed), passed[2:, :, 1:]


#: Each entry is its source and what its successors have of it: the transpose of `forward_sums`.
backward_sums = backend.with_gradient(_backward_sums, _backward_gradient)


def _parts(weights):
    return [weights[:, k] for k in range(3)]
