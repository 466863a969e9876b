"""The weights by which a spectral risk measure averages losses: worst cases count more."""

from typing import Any

from keras import ops

from keras_regularize.numerics import TINY, cumsum, maximum, minimum, upcast, xlogy
from keras_regularize.validation import check_choice, check_number

SPECTRA = {
    "cvar": {"above": 0, "maximum": 1},
    "extremile": {"minimum": 1},
    "esrm": {"above": 0},
    "uniform": {},
}
PENALTIES = ("chi2", "kl")


def spectral_weights(
    losses: Any,
    spectrum: str = "cvar",
    parameter: float = 0.5,
    shift_cost: float = 0.0,
    penalty: str = "chi2",
) -> Any:
    r"""The most adverse weights of losses within a spectral uncertainty set, larger for larger losses.

    $$q = \arg\max_{q \in P(\sigma)} \ \langle q, \ell \rangle - \nu\, D(q \,\|\, \tfrac1n \mathbb 1)$$

    where $P(\sigma)$ holds the averages of the permutations of a spectrum $\sigma_1 \le \dots \le \sigma_n$ of sum
    1, and $D$ is $\frac n2 \lVert q - \frac1n \rVert^2$ ("chi2") or $\sum_i q_i \log n q_i$ ("kl"). The spectra,
    with $F(\sigma)_i$ the mass up to $i/n$:

    | `spectrum` | $F(t)$ | `parameter` |
    |---|---|---|
    | `"cvar"` | $\max(t - 1 + a, 0) / a$ | the fraction $a \in (0, 1]$ of worst samples (1 − the superquantile) |
    | `"extremile"` | $t^r$ | $r \ge 1$, the expected maximum of $r$ samples |
    | `"esrm"` | $(e^{\rho t} - 1)/(e^{\rho} - 1)$ | the risk aversion $\rho > 0$ |
    | `"uniform"` | $t$ | not used |

    Without a shift cost the largest loss gets $\sigma_n$, the next $\sigma_{n-1}$, and so on. With one, samples of
    similar losses share their weights, exactly (isotonic regression by the min-max formula): ties get equal
    weights, and the weights move continuously with the losses. As $\nu \to \infty$ they become uniform.

    Args:
        losses: Losses `(n,)`.
        spectrum: `"cvar"`, `"extremile"`, `"esrm"` or `"uniform"`.
        parameter: Parameter of the spectrum, in the range of the table.
        shift_cost: Price $\nu \ge 0$ of weights that are not uniform, in units of the loss.
        penalty: `"chi2"` or `"kl"`; not used without a shift cost.

    Returns:
        Weights `(n,)` of sum 1 in the order of `losses`, in at least float32. They are constants: no gradient
        flows through them, and none needs to, since the risk's gradient is $\sum_i q_i \nabla \ell_i$.

    Raises:
        ValueError: If an argument is none of these, or `losses` is not a vector.

    Cost: one sort; with a shift cost a few arrays of `n × n`.

    Example:

    ```python
    import keras_regularize as kr

    kr.losses.spectral_weights([0.1, 3.0, 0.2, 1.0], "cvar", 0.5)  # [0, 0.5, 0, 0.5]
    kr.losses.spectral_weights([0.1, 3.0, 0.2, 1.0], "cvar", 0.5, shift_cost=0.5)
    ```

    Reference: Mehta, Roulet, Pillutla and Harchaoui, *Distributionally Robust Optimization with Bias and
    Variance Reduction*, ICLR 2024, arXiv:2310.13863.
    """
    check_spectrum(spectrum, parameter, shift_cost, penalty)
    losses = ops.stop_gradient(upcast(losses))
    if len(losses.shape) != 1:
        raise ValueError(
            f"`losses` must be a vector (n,). Received: losses.shape={tuple(losses.shape)}"
        )
    return weights_among(losses, None, spectrum, parameter, shift_cost, penalty)


def weights_among(losses, counted, spectrum, parameter, shift_cost, penalty):
    """`spectral_weights` of those losses that are `counted` (bools, or `None` for all); the others get 0."""
    if 0 in losses.shape:  # Nothing can be reduced over an empty axis.
        return losses
    rank = cumsum(ops.ones_like(losses))  # 1 … n, whatever the batch size turns out to be.
    size = rank[-1]
    if counted is None:
        order = ops.argsort(losses)
    else:
        # What does not count comes first, with ranks below 1 and no mass.
        losses = ops.where(counted, losses, 0.0)
        order = ops.argsort(losses)
        order = ops.take(order, _stable_order(ops.take(counted, order, axis=0)), axis=0)
        present = ops.sum(ops.cast(counted, losses.dtype))
        rank, size = rank - (size - present), maximum(present, 1.0)
    mass = _spectrum(spectrum, float(parameter), rank, size)
    if counted is not None:
        mass = ops.where(rank > 0, mass, 0.0)
    if shift_cost > 0:
        pool = _pool_chi2 if penalty == "chi2" else _pool_kl
        scale = size * shift_cost if penalty == "chi2" else shift_cost
        # Differences first: losses may be close to each other and far from 0.
        losses = ops.take(losses, order, axis=0)
        gap = (losses[None, :] - losses[:, None]) / scale
        mass = pool(gap, (losses[1:] - losses[:-1]) / scale, mass, rank)
    return ops.take(mass, ops.argsort(order), axis=0)


def _stable_order(flags):
    """The order that puts unset flags first and changes nothing else."""
    position = ops.cumsum(ops.ones_like(flags, dtype="int32"))
    return ops.argsort(position + ops.cast(flags, "int32") * position[-1])


def check_spectrum(
    spectrum: str, parameter: float, shift_cost: float, penalty: str
) -> tuple[str, float, float, str]:
    """The arguments of `spectral_weights`, which must be in their ranges, as plain values."""
    spectrum = check_choice("spectrum", spectrum, tuple(SPECTRA))
    return (
        spectrum,
        check_number("parameter", parameter, **SPECTRA[spectrum]),
        check_number("shift_cost", shift_cost, minimum=0),
        check_choice("penalty", penalty, PENALTIES),
    )


def relative_weights(weights: Any, counted: Any) -> Any:
    """Weights times their number: their mean over what counts is 1."""
    ones = ops.ones_like(weights) if counted is None else ops.cast(counted, weights.dtype)
    return ops.sum(ones) * weights


def price(relative: Any, counted: Any, penalty: str) -> Any:
    r"""The divergence $D(q)$ of relative weights $n q$ from uniform ones."""
    ones = ops.ones_like(relative) if counted is None else ops.cast(counted, relative.dtype)
    size = maximum(ops.sum(ones), 1.0)
    if penalty == "chi2":
        return 0.5 * ops.sum(ones * ops.square(relative - 1.0)) / size
    return ops.sum(xlogy(relative, relative)) / size


def _spectrum(spectrum, parameter, rank, size):
    """The spectrum at ranks 1 … n; differences of $F$ written so that nothing cancels."""
    if spectrum == "cvar":
        inside = ops.clip((rank - size) + size * parameter, 0.0, 1.0)
        return inside / maximum(ops.sum(inside), TINY)
    if spectrum == "extremile":
        first, rank = rank <= 1.0, maximum(rank, 1.0)
        step = ops.log1p(-1.0 / ops.where(first, 2.0, rank))
        share = ops.where(first, 1.0, -ops.expm1(parameter * step))
        return ops.power(rank / size, parameter) * share
    if spectrum == "esrm":
        step = ops.expm1(-parameter / size) / ops.expm1(-parameter * ops.ones_like(size))
        return ops.exp(parameter * (rank / size - 1.0)) * step
    return ops.ones_like(rank) / size


# Isotonic regression. In the sorted order the samples fall into blocks that share their mass. A block
# begins at m exactly if no segment that ends before m has a larger mean than one that begins there (the
# min-max formula). All is relative to the row's own sample: `gap[i, k] = s_k − s_i` of the ascending
# s = ℓ / scale, since neighbours differ by little where it matters and the values themselves may be huge.

_INFINITE = 1e30
_LARGEST_EXPONENT = 60.0  # Beyond, a share of the block is 0 in float32's terms.


def _pool_chi2(gap, step, mass, rank):
    """`q = s − isotonic(s − mass)`."""
    after, before = _sides(rank)
    excess = gap - mass[None, :]
    length = ops.abs(rank[None, :] - rank[:, None]) + 1.0
    lowest = ops.amin(ops.where(after, _from_diagonal(excess, after) / length, _INFINITE), axis=1)
    highest = ops.amax(ops.where(before, _to_diagonal(excess, before) / length, -_INFINITE), axis=1)
    block = _same_block(step, lowest, highest)
    return ops.sum(ops.where(block, -excess, 0.0), axis=1) / _count(block, gap)


def _pool_kl(gap, step, mass, rank):
    """`q ∝ exp(s)` within blocks, each block with its mass of the spectrum."""
    after, before = _sides(rank)
    growth = ops.exp(minimum(gap, _LARGEST_EXPONENT))
    masses = mass[None, :] * ops.ones_like(gap)

    def level(cumulate, mask):
        # Samples without mass of their own are at level +∞: they join the next block that has some.
        share = cumulate(masses, mask)
        log_share = ops.log(ops.where(share > 0, share, 1.0))
        return ops.where(share > 0, ops.log(cumulate(growth, mask)) - log_share, _INFINITE)

    lowest = ops.amin(ops.where(after, level(_from_diagonal, after), _INFINITE), axis=1)
    highest = ops.amax(ops.where(before, level(_to_diagonal, before), -_INFINITE), axis=1)
    block = _same_block(step, lowest, highest)
    share = ops.sum(ops.where(block, masses, 0.0), axis=1)
    return share / ops.sum(ops.where(block, growth, 0.0), axis=1)


def _sides(rank):
    """`(n, n)` twice: which samples come at or after each, and at or before it, of those with ranks from 1 on."""
    after, before = rank[None, :] >= rank[:, None], rank[None, :] <= rank[:, None]
    present = rank > 0
    return after & present[None, :], before & present[None, :]


def _from_diagonal(rows, after):
    """Sums from the diagonal to each later column."""
    return ops.cumsum(ops.where(after, rows, 0.0), axis=1)


def _to_diagonal(rows, before):
    """Sums from each earlier column to the diagonal, where they begin: the far ones may be huge."""
    return ops.flip(ops.cumsum(ops.flip(ops.where(before, rows, 0.0), axis=1), axis=1), axis=1)


def _same_block(step, lowest, highest):
    """`(n, n)`: whether two samples share a block, `step` being `s_{k+1} − s_k`."""
    begins = (highest[:-1] < _INFINITE) & (highest[:-1] - lowest[1:] <= step)
    number = ops.cumsum(ops.cast(begins, step.dtype))
    number = ops.concatenate([0.0 * lowest[:1], number], axis=0)
    return number[None, :] == number[:, None]


def _count(block, gap):
    return ops.sum(ops.cast(block, gap.dtype), axis=1)
