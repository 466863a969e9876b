"""Losses that come with their gradients on torch, or piece by piece: these are those of their formulas."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_regularize as kr
from keras_regularize.autodiff import backend

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="Elsewhere a compiler joins the passes."
)

CLASSES = 5
COUNTS = [50, 20, 10, 3, 1]
LOSSES = {
    "MaxSup": kr.losses.MaxSup(0.3, reduction=None),
    "MbLS": kr.losses.MbLS(0.2, margin=2.0, reduction=None),
    "ACLS": kr.losses.ACLS(0.5, margin=2.0, reduction=None),
    "SpectralDecoupling": kr.losses.SpectralDecoupling(0.1, reduction=None),
    "targets": kr.losses.SpectralDecoupling(0.1, [0.1, 2.0, -1.0, 0.0, 3.0], reduction=None),
    "ZLoss": kr.losses.ZLoss(2.0, 1.0, reduction=None),
    "LDAM": kr.losses.LDAM(COUNTS, reduction=None),
    "LogitAdjusted": kr.losses.LogitAdjusted(COUNTS, reduction=None),
    "Seesaw": kr.losses.Seesaw(COUNTS, reduction=None),
    "steep": kr.losses.Seesaw(COUNTS, p=1.0, q=16.0, reduction=None),
    "BiTempered": kr.losses.BiTempered(0.7, 1.4, reduction=None),
    "smoothed": kr.losses.BiTempered(1.0, 1.2, label_smoothing=0.1, reduction=None),
    "one temperature": kr.losses.BiTempered(0.5, 1.0, reduction=None),
    "below 1": kr.losses.BiTempered(0.2, 0.8, reduction=None),
    "Entmax": kr.losses.Entmax(1.3, reduction=None),
    "Sparsemax": kr.losses.Sparsemax(reduction=None),
    "PolyFocal": kr.losses.PolyFocal(from_logits=True, reduction=None),
}


def value_and_gradient(loss, y, z, weights):
    def weighted(z):
        values = loss(y, z)
        return ops.sum(values * weights), values

    import torch

    with torch.no_grad():
        (_, values), gradient = kr.autodiff.value_and_grad(weighted, has_aux=True)(z)
    return ops.convert_to_numpy(values), ops.convert_to_numpy(gradient)


@pytest.mark.parametrize("name", LOSSES)
def test_slopes_are_those_of_the_formula(name, monkeypatch):
    generator = np.random.default_rng(0)
    z = generator.normal(size=(6, 3, CLASSES))
    z = np.concatenate([z, 30 * z, np.round(2 * z), 1e4 * z, np.round(z) + 1e4])
    z = ops.convert_to_tensor(z.astype("float32"))
    ids = generator.integers(0, CLASSES, z.shape[:-1])
    soft = generator.dirichlet(np.ones(CLASSES), z.shape[:-1]).astype("float32")
    weights = ops.convert_to_tensor(generator.normal(size=z.shape[:-1]).astype("float32"))
    for y in (ids, np.eye(CLASSES, dtype="float32")[ids], soft, 0.5 * soft):
        monkeypatch.setattr("keras_regularize.autodiff._torch_slopes._PIECE", 64)
        found = value_and_gradient(LOSSES[name], y, z, weights)
        with monkeypatch.context() as patch:
            patch.setattr(backend, "with_slopes", lambda plain, slopes, x, y: plain(x, y))
            expected = value_and_gradient(LOSSES[name], y, z, weights)
        for one, other in zip(found, expected):
            np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-5)


def test_slopes_are_used_up_once():
    import torch

    z = torch.randn(4, CLASSES, requires_grad=True)
    loss = LOSSES["MbLS"](np.array([0, 1, 2, 3]), z).sum()
    (first,) = torch.autograd.grad(loss, z, retain_graph=True)
    kept = first.clone()
    (again,) = torch.autograd.grad(loss, z, retain_graph=True)
    (recorded,) = torch.autograd.grad(loss, z, create_graph=True)
    torch.testing.assert_close(first, kept, rtol=0, atol=0)
    torch.testing.assert_close(again, first, rtol=0, atol=0)
    torch.testing.assert_close(recorded, first)
    assert recorded.grad_fn is not None


def test_gradients_of_several_values_at_a_time():
    import torch

    z = torch.randn(3, CLASSES, requires_grad=True)
    values = LOSSES["MbLS"](np.array([0, 1, 2]), z)
    rows = [torch.autograd.grad(value, z, retain_graph=True)[0] for value in values]
    (found,) = torch.autograd.grad(values, z, torch.eye(3), is_grads_batched=True)
    torch.testing.assert_close(found, torch.stack(rows))


@pytest.mark.parametrize("name", sorted(LOSSES.keys() - {"Entmax", "Sparsemax"}))
def test_second_derivatives_are_those_of_the_formula(name, monkeypatch):
    import torch

    z, y = torch.randn(3, CLASSES, requires_grad=True), np.array([0, 3, 4])

    def curvature():
        (gradient,) = torch.autograd.grad(LOSSES[name](y, z).sum(), z, create_graph=True)
        return torch.autograd.grad((gradient**2).sum(), z)[0]

    found = curvature()
    monkeypatch.setattr(backend, "with_slopes", lambda plain, slopes, x, y: plain(x, y))
    torch.testing.assert_close(found, curvature())


def test_one_hot_rows_are_read_as_ids():
    ids = np.array([[0, 3], [4, 4]])
    rows = np.eye(CLASSES, dtype="float32")[ids]
    np.testing.assert_array_equal(backend.one_hot_ids(ops.convert_to_tensor(rows)), ids)
    two, smooth, twice = rows.copy(), 0.9 * rows + 0.02, 2 * rows
    two[0, 0, 1] = 1.0
    for other in (two, smooth, twice, rows - rows, np.full_like(rows, np.nan)):
        assert backend.one_hot_ids(ops.convert_to_tensor(other)) is None
    assert backend.one_hot_ids(ops.convert_to_tensor(rows).requires_grad_()) is None
