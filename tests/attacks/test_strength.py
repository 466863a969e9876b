"""The attacks find what those of a public library find, and obey the order that strength implies."""

import numpy as np
import pytest

import keras_regularize as kr
from benchmarks.attacks import LINF, OURS, digits_network

# Accuracy of `digits_network` under the attacks of torchattacks 3.5.1 (`python -m benchmarks.attacks`).
LIBRARY = {
    "FGSM": 0.5029,
    "PGD-24": 0.4751,
    "PGD-24, L2": 0.2061,
    "APGD-24": 0.4688,
    "APGD-24, DLR": 0.4926,
    "APGD-24, L2": 0.2082,
    "APGD-24, L2, DLR": 0.2316,
}


@pytest.fixture(scope="module")
def digits():
    return digits_network()


@pytest.mark.rotating
@pytest.mark.parametrize("name", LIBRARY)
def test_as_strong_as_a_library(name, digits):
    model, x, y = digits
    ours = kr.analysis.robust_accuracy(model, x, y, OURS[name](), batch_size=len(x))
    assert ours <= LIBRARY[name] + 0.005


@pytest.mark.rotating
def test_strength_has_an_order(digits):
    model, x, y = digits
    x, y = x[:517], y[:517]

    def accuracy(*attacks):
        return kr.analysis.robust_accuracy(model, x, y, list(attacks), batch_size=len(x))

    def pgd(epsilon, steps, step_size=LINF / 5):
        return kr.attacks.PGD(epsilon, step_size, steps, random_start=False)

    clean = np.mean(model.predict(x, batch_size=len(x), verbose=0).argmax(axis=1) == y)
    by_radius = [accuracy(pgd(epsilon, 5, 0.05)) for epsilon in (0.0, 0.03, 0.1, 0.2)]
    assert by_radius[0] == pytest.approx(clean, abs=1e-6)
    assert (np.diff(by_radius) < 0).all()
    by_steps = [accuracy(pgd(LINF, steps)) for steps in (1, 3, 5)]
    assert (np.diff(by_steps) <= 0).all()
    assert accuracy(kr.attacks.FGSM(LINF), pgd(LINF, 5)) <= by_steps[-1]
    assert accuracy(kr.attacks.FGSM(LINF)) >= by_steps[-1] >= accuracy(OURS["APGD-24"]())
