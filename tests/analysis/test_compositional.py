"""F1-norm and the complexity of chains of blocks."""

import numpy as np
import pytest

from keras_regularize.analysis import accnet_bound, f1_norm
from keras_regularize.testing._common import cast, to_numpy, values_and_gradients

RNG = np.random.default_rng(0)
W, C, V = RNG.normal(size=(3, 5)), RNG.normal(size=5), RNG.normal(size=(5, 2))


def norm(w, v, c):
    return float(to_numpy(f1_norm(*(cast(a, "float32") for a in (w, v, c)))))


def test_invariances_of_the_norm():
    value = norm(W, V, C)
    t = np.array([0.1, 1, 2, 3, 10])
    assert norm(W * t, V / t[:, None], C * t) == pytest.approx(value, rel=1e-5)
    # A unit split in two, and units added up.
    split = norm(
        W[:, [0, *range(5)]],
        V[[0, *range(5)]] * [[0.5], [0.5], [1], [1], [1], [1]],
        C[[0, *range(5)]],
    )
    assert split == pytest.approx(value, rel=1e-5)
    parts = norm(W[:, :2], V[:2], C[:2]) + norm(W[:, 2:], V[2:], C[2:])
    assert parts == pytest.approx(value, rel=1e-5)
    half = 0.5 * sum((a**2).sum() for a in (W, V, C))
    assert value <= half
    incoming = np.sqrt((W**2).sum(axis=0) + C**2)
    balance = np.sqrt(np.linalg.norm(V, axis=1) / incoming)
    balanced = W * balance, V / balance[:, None], C * balance
    assert 0.5 * sum((a**2).sum() for a in balanced) == pytest.approx(value, rel=1e-5)


def test_dead_units_have_no_slope():
    w, c = W.copy(), C.copy()
    w[:, 1], c[1] = 0, 0
    run = values_and_gradients(lambda w: f1_norm(w[:3], cast(V, "float32"), w[3]))
    value, gradient = run(cast(np.concatenate([w, c[None]]), "float32"))
    gradient = to_numpy(gradient)
    assert (
        np.isfinite(gradient).all() and (gradient[:, 1] == 0).all() and float(to_numpy(value)) > 0
    )


def test_a_bias_of_another_layer_is_an_error():
    for bias in (C[:1], C[:2], C[:, None]):
        with pytest.raises(ValueError, match="`bias_in` must have an entry per hidden unit, 5"):
            norm(W, V, bias)


def test_the_bound_equals_the_formula():
    blocks = [
        (RNG.normal(size=(4, 7)), RNG.normal(size=(7, 2))),
        (RNG.normal(size=(2, 9)), RNG.normal(size=(9, 3))),
    ]
    product, total = 1.0, 0.0
    for w, v in blocks:
        largest = [np.linalg.svd(a, compute_uv=False)[0] for a in (w, v)]
        product *= largest[0] * largest[1]
        total += (
            np.sqrt((w**2).sum() * (v**2).sum())
            / np.prod(largest)
            * np.sqrt(w.shape[0] + v.shape[1])
        )
    assert accnet_bound(blocks, 25) == pytest.approx(product * total / 5)
    assert accnet_bound(blocks, 25, input_radius=3.0) == pytest.approx(3 * product * total / 5)
    with pytest.raises(ValueError, match="`input_radius` must be a number at least 0"):
        accnet_bound(blocks, input_radius=-1.0)
    assert accnet_bound([(0 * blocks[0][0], blocks[0][1])]) == 0.0


@pytest.mark.parametrize("blocks", [[], [(W,)], [(W, V), (W, V)], [(W, C)]])
def test_blocks_must_be_a_chain(blocks):
    with pytest.raises(ValueError, match="`blocks` must be a chain of pairs of kernels"):
        accnet_bound(blocks)
    with pytest.raises(ValueError, match="must be kernels \\(in, hidden\\) and \\(hidden, out\\)"):
        f1_norm(W, W)
