"""What does not count in a batch is not there, for losses whose values depend on the whole batch."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_regularize as kr
from keras_regularize.losses import CVaR, SpectralRisk, ZErrorBCE, ZErrorMSE
from keras_regularize.testing._common import fused

RNG = np.random.RandomState(0)
IDS = RNG.randint(0, 3, (4, 4))
LOGITS = RNG.normal(size=(4, 4, 3)).astype("float32")
TARGETS = RNG.normal(size=(4, 4, 3)).astype("float32")
MASK = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]], bool)
WEIGHTS = {
    "none": None,
    "positions": RNG.rand(4, 4).astype("float32") * (RNG.rand(4, 4) > 0.3),
    "column": np.array([[1.0], [0.0], [0.5], [2.0]], "float32"),
}
CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy
LOSSES = {
    "mse": (lambda r: keras.losses.MeanSquaredError(reduction=r), "mse", TARGETS),
    "crossentropy": (
        lambda r: CROSS_ENTROPY(from_logits=True, reduction=r),
        CROSS_ENTROPY(from_logits=True),
        IDS,
    ),
    "ignored": (
        lambda r: CROSS_ENTROPY(from_logits=True, ignore_class=1, reduction=r),
        CROSS_ENTROPY(from_logits=True, ignore_class=1),
        IDS,
    ),
    "ours": (lambda r: kr.losses.MaxSup(0.2, reduction=r), kr.losses.MaxSup(0.2), IDS),
}


def masked(y_pred, mask):
    y_pred = ops.convert_to_tensor(y_pred)
    if mask is not None:
        y_pred._keras_mask = ops.convert_to_tensor(mask)
    return y_pred


@pytest.mark.parametrize(
    "reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight", None]
)
@pytest.mark.parametrize("name", LOSSES)
def test_the_whole_tail_is_the_wrapped_loss(name, reduction):
    make, inner, y_true = LOSSES[name]
    for which, weights in WEIGHTS.items():
        for mask in (None, MASK):
            spelled = weights
            if weights is not None and (mask is not None or name == "ignored"):
                spelled = weights * np.ones((4, 4), "float32")  # Else Keras fails on PyTorch.
            expected = make(reduction)(y_true, masked(LOGITS, mask), spelled)
            for loss in (
                CVaR(inner, 1.0, reduction),
                SpectralRisk(inner, "uniform", reduction=reduction),
            ):
                got = loss(y_true, masked(LOGITS, mask), weights)
                np.testing.assert_allclose(
                    ops.convert_to_numpy(got),
                    ops.convert_to_numpy(expected),
                    rtol=2e-6,
                    atol=1e-7,
                    err_msg=f"{which} {mask is not None}",
                )


def test_positions_of_weight_zero_cost_what_they_cost_without_the_risk():
    y, p = np.zeros((2, 2, 1), "float32"), np.array([[[1], [1]], [[3], [3]]], "float32")
    weights = np.array([[1, 1], [0, 0]], "float32")
    assert float(CVaR("mse", 1.0)(y, p, weights)) == pytest.approx(0.5)
    ids = np.array([0, -1, 1, -1])
    inner = CROSS_ENTROPY(from_logits=True, ignore_class=-1)
    expected = float(inner(ids, LOGITS[0]))
    assert float(CVaR(inner, 1.0)(ids, LOGITS[0])) == pytest.approx(expected)


@pytest.mark.parametrize("penalty, cost", [("chi2", 0.0), ("chi2", 0.3), ("kl", 0.3)])
@pytest.mark.parametrize("spectrum, parameter", [("cvar", 0.5), ("extremile", 2.0), ("esrm", 1.0)])
def test_what_does_not_count_is_not_there(spectrum, parameter, penalty, cost):
    loss = SpectralRisk("mse", spectrum, parameter, cost, penalty)
    y, p = TARGETS[:, 0], LOGITS[:, 0].copy()
    kept = np.array([True, False, True, True])
    expected = float(loss(y[kept], p[kept]))
    p[1] = 100.0
    evaluate = fused(lambda y, p, w: loss(y, p, w))
    weights = kept.astype("float32")
    assert float(evaluate(y, p, weights)) == pytest.approx(0.75 * expected, rel=1e-5)
    assert float(loss(y, masked(p, kept))) == pytest.approx(expected, rel=1e-5)
    p[1] = np.nan
    assert float(loss(y, p, weights)) == pytest.approx(0.75 * expected, rel=1e-5)
    assert float(loss(y, masked(p, kept))) == pytest.approx(expected, rel=1e-5)
    p[1], y = 0.0, y.copy()
    y[1] = np.nan
    assert float(loss(y, p, weights)) == pytest.approx(0.75 * expected, rel=1e-5)
    assert np.isnan(float(loss(y, p)))
    assert float(loss(y, p, 0.0 * weights)) == 0.0
    # Padding changes nothing.
    p, y = LOGITS[:3], TARGETS[:3]
    mask = np.ones((3, 4), bool)
    short = float(loss(y, masked(p, mask)))
    long = [np.pad(a, ((0, 0), (0, 3), (0, 0)), constant_values=7.0) for a in (y, p)]
    padded = masked(long[1], np.pad(mask, ((0, 0), (0, 3))))
    assert float(loss(long[0], padded)) == pytest.approx(short, rel=1e-5)


def test_weights_of_more_positions_than_the_loss_has_values():
    with pytest.raises(ValueError, match="at most the rank of the loss values"):
        CVaR("mse", 0.5)(TARGETS[0], LOGITS[0], np.ones((4, 3), "float32"))


def slopes(loss, y, p, w=None):
    gradient = kr.autodiff.grad(lambda p: loss(y, p, w))
    return ops.convert_to_numpy(gradient(ops.convert_to_tensor(p)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("make", [ZErrorMSE, ZErrorBCE, lambda: CVaR("mse", 0.5)])
def test_no_number_in_and_no_number_out_unless_it_does_not_count(make, bad):
    y = (RNG.rand(12, 1) > 0.5).astype("float32")
    p = RNG.normal(size=(12, 1)).astype("float32")
    weights = np.ones(12, "float32")
    weights[3] = 0
    rest = weights > 0
    loss, wrong = make(), p.copy()
    wrong[3] = bad
    assert not np.isfinite(float(loss(y, wrong)))
    expected = float(loss(y[rest], p[rest])) * 11 / 12
    assert float(loss(y, wrong, weights)) == pytest.approx(expected, rel=1e-5)
    got = slopes(loss, y, wrong, weights)
    assert got[3] == 0
    np.testing.assert_allclose(
        got[rest], slopes(loss, y[rest], p[rest]) * 11 / 12, rtol=1e-4, atol=1e-7
    )
    assert float(loss(y, masked(wrong, rest))) == pytest.approx(expected * 12 / 11, rel=1e-5)
    if np.isnan(bad):
        targets = y.copy()
        targets[3] = bad
        assert np.isnan(float(loss(targets, p)))
        assert float(loss(targets, p, weights)) == pytest.approx(expected, rel=1e-5)
